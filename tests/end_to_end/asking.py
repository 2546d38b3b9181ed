"""What users do: wait for a service, and chat with it, streamed, by OpenAI's own client."""

import json

import openai

from tests.cluster.cluster import Cluster


def wait_ready(cluster: Cluster, namespace: str, name: str, seconds: float = 120) -> None:
    """`kubectl wait`. Raises `AssertionError` with all conditions, and where each worker's pod is."""
    try:
        cluster.wait(f"inferenceservice/{name}", "Ready", namespace, seconds)
    except AssertionError as error:
        conditions = cluster.get("inferenceservice", name, namespace=namespace).get("status", {}).get("conditions", [])
        said = [f"{one['type']}={one['status']} {one['reason']}: {one['message']}" for one in conditions]
        pods = cluster.get("pods", "-l", f"tandem.dev/service={name}", namespace=namespace)["items"]
        states = [f"{pod['metadata']['name']} {json.dumps(pod['status'].get('conditions'))}" for pod in pods]
        raise AssertionError("\n".join([f"{name} is not ready", *said, *states])) from error


def wait_complete(cluster: Cluster, namespace: str, name: str, seconds: float = 120) -> None:
    """Waits until all workers are as the manifest wants them."""
    reason = '{.status.conditions[?(@.type=="Progressing")].reason}'
    cluster.kubectl(
        *("wait", f"inferenceservice/{name}", "-n", namespace),
        *(f"--for=jsonpath={reason}=Complete", f"--timeout={seconds}s"),
        timeout=seconds + 30,
    )


def streamed_chat(
    url: str, model: str, question: str = "Who is there?", *, key: str = "none", **options: object
) -> str:
    """The text that a model answers with. Fails where the answer is not whole."""
    with openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=60) as client:
        chunks = list(
            client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": question}], stream=True, extra_body=options
            )
        )
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text, chunks
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] in ("stop", "length"), chunks
    return text
