"""What `helm test` runs: applies an InferenceService on the virtual engine, waits for it, asks it, deletes it again.

It runs in a pod of the router's image, with a service account that may do this and nothing else.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
POLL_SECONDS = 0.5
REQUEST_SECONDS = 30.0


class Failed(Exception):
    """The test failed; the text says where and what to look at."""


def service(name: str) -> dict[str, Any]:
    """One prefill and one decode worker, without a GPU and without weights."""
    return {
        "apiVersion": "tandem.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "helm-test"}},
        "spec": {
            "versions": [{"name": "v1", "engine": {"type": "virtual"}}],
            "prefill": {"replicas": 1},
            "decode": {"replicas": 1},
        },
    }


def run(
    api: httpx.Client,
    router: httpx.Client,
    name: str,
    namespace: str,
    timeout: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """The text of the answer; whatever happens, nothing of the service is left.

    Raises:
        Failed: at the first thing that isn't as it should be.
        httpx.HTTPError: the API server or the router can't be reached.
    """
    deadline = clock() + timeout
    collection = f"/apis/tandem.dev/v1alpha1/namespaces/{namespace}/inferenceservices"
    one = f"{collection}/{name}"
    _delete(api, one, deadline, clock, sleep)  # of a test that was cut short
    try:
        _checked(api.post(collection, json=service(name)), "creating the InferenceService")
        _wait_ready(api, one, deadline, clock, sleep)
        return _ask(router, name)
    finally:
        _delete(api, one, clock() + REQUEST_SECONDS, clock, sleep)


def _wait_ready(
    api: httpx.Client, one: str, deadline: float, clock: Callable[[], float], sleep: Callable[[float], None]
) -> None:
    said = ""
    while True:
        found = _checked(api.get(one), "reading the InferenceService").json()
        conditions = {c["type"]: c for c in found.get("status", {}).get("conditions", ())}
        ready = conditions.get(
            "Ready", {"status": "Unknown", "reason": "NoStatus", "message": "the operator is silent"}
        )
        says = f"Ready={ready['status']} {ready.get('reason', '')}: {ready.get('message', '')}"
        if says != said:
            print(says, flush=True)
            said = says
        if ready["status"] == "True":
            return
        if clock() >= deadline:
            raise Failed(
                f"the InferenceService did not become Ready in time; last: {says}. Look at the operator's log."
            )
        sleep(POLL_SECONDS)


def _ask(router: httpx.Client, model: str) -> str:
    """Streams one chat completion, as most clients do."""
    body = {"model": model, "messages": [{"role": "user", "content": "Why is the sky blue?"}], "stream": True}
    text, done = "", False
    with router.stream("POST", "/v1/chat/completions", json=body) as answer:
        if answer.status_code != 200:
            answer.read()
        _checked(answer, "asking the router")
        for line in answer.iter_lines():
            data = line.removeprefix("data: ")
            if data == "[DONE]":
                done = True
            elif data != line:
                event = json.loads(data)
                if "error" in event:
                    raise Failed(f"the stream ended in an error: {event['error']}")
                text += "".join(choice["delta"].get("content") or "" for choice in event["choices"])
    if not done or not text:
        raise Failed(f"the stream was cut: {len(text)} characters came{'' if done else ', and no [DONE]'}")
    return text


def _delete(
    api: httpx.Client, one: str, deadline: float, clock: Callable[[], float], sleep: Callable[[float], None]
) -> None:
    while True:
        answer = api.delete(one)
        if answer.status_code == 404:
            return
        _checked(answer, "deleting the InferenceService")
        if clock() >= deadline:
            raise Failed("the InferenceService was not gone in time; something it owns can't be deleted")
        sleep(POLL_SECONDS)


def _checked(answer: httpx.Response, doing: str) -> httpx.Response:
    if not answer.is_success:
        raise Failed(f"{doing} failed: HTTP {answer.status_code}: {answer.text[:2000]}")
    return answer


def bearer(key: str) -> dict[str, str]:
    """Headers that show a key, where there is one."""
    return {"Authorization": f"Bearer {key}"} if key else {}


def main() -> None:
    """Runs in the pod; exits with 1 where the test fails."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--name", required=True)
    options.add_argument("--namespace", required=True)
    options.add_argument("--router", required=True, help="its base URL, without /v1")
    options.add_argument("--timeout", type=float, default=180.0)
    options.add_argument("--api", default="", help="default: what the pod's environment says")
    given = options.parse_args()
    import os
    import ssl

    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    url = given.api or f"https://{f'[{host}]' if ':' in host else host}:{port}"
    trust = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt")) if url.startswith("https") else False
    token = (ACCOUNT / "token").read_text() if url.startswith("https") else ""
    key = os.environ.get("TANDEM_API_KEY", "")
    with (
        httpx.Client(
            base_url=url, headers=bearer(token), verify=trust, timeout=REQUEST_SECONDS, trust_env=False
        ) as api,
        httpx.Client(base_url=given.router, headers=bearer(key), timeout=REQUEST_SECONDS, trust_env=False) as router,
    ):
        try:
            text = run(api, router, given.name, given.namespace, given.timeout)
        except (Failed, httpx.HTTPError) as error:
            print(f"FAILED: {error}", file=sys.stderr)
            sys.exit(1)
    print(f"it says: {text}")


if __name__ == "__main__":
    main()
