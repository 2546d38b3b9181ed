"""InferenceServices of the tests: virtual engines whose answers are known."""

import json
from collections.abc import Mapping
from typing import Any

from tandem_api.inference_service import KvTransferSpec, VirtualEngineSpec
from tandem_engine.engine import Call
from tandem_engine.virtual import VirtualEngine
from tandem_proto.tandem.v1 import worker_pb2

from tests.cluster.cluster import Cluster
from tests.conservation.judge import Answer, read_body, read_stream
from tests.conservation.shots import Ask
from tests.end_to_end.following import Json
from tests.virtual_engine.conftest import RecordedReply, VirtualClock

ENGINE: Mapping[str, Any] = {"decodeStepTime": "20ms", "prefillTokenTime": "10us", "bytesPerToken": 64}
"""Of every version, but for what makes it another: streams of some seconds at most, of little KV."""


def version(name: str = "v1", *, weight: int | None = None, seed: int = 0, **fields: Any) -> Json:
    """A version of a spec. Its answers follow from `seed`, beside the request's own."""
    engine = {"type": "virtual", "virtual": {**ENGINE, "seed": seed}}
    return {"name": name, "engine": engine, **({} if weight is None else {"weight": weight}), **fields}


def service(name: str, namespace: str, *versions: Json, prefill: int = 1, decode: int = 1, **spec: Any) -> Json:
    """A manifest. Its model's name is of this namespace alone: names of models hold for a whole cluster."""
    return {
        "apiVersion": "tandem.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "model": model(name, namespace),
            "versions": list(versions) or [version()],
            "prefill": {"replicas": prefill},
            "decode": {"replicas": decode},
            **spec,
        },
    }


def model(name: str, namespace: str) -> str:
    """What clients call a service of `service`."""
    return f"{name}.{namespace}"


def apply(cluster: Cluster, manifest: Json) -> int:
    """Applies a manifest as users do. Returns its generation."""
    argv = ("apply", "-f", "-", "-o", "jsonpath={.metadata.generation}")
    return int(cluster.kubectl(*argv, given=json.dumps(manifest)).stdout)


def patch(cluster: Cluster, manifest: Json) -> int:
    """Patches a service's spec so that it becomes the manifest's. Returns its generation."""
    metadata = manifest["metadata"]
    thing = ("inferenceservice", metadata["name"], "-n", metadata["namespace"])
    body = json.dumps({"spec": manifest["spec"]})
    argv = ("patch", *thing, "--type=merge", "-p", body, "-o", "jsonpath={.metadata.generation}")
    return int(cluster.kubectl(*argv).stdout)


def workers(cluster: Cluster, manifest: Json) -> dict[str, Json]:
    """The pods of a service that are not about to go, by name."""
    metadata = manifest["metadata"]
    found = cluster.get("pods", "-l", f"tandem.dev/service={metadata['name']}", namespace=metadata["namespace"])
    return {pod["metadata"]["name"]: pod for pod in found["items"] if "deletionTimestamp" not in pod["metadata"]}


def lives(pods: Mapping[str, Json]) -> dict[str, tuple[str, int]]:
    """Pods by name, with what changes when one is made, or its worker begun, again."""
    return {
        name: (pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"])
        for name, pod in pods.items()
    }


async def answer(ask: Ask, seed: int = 0) -> Answer:
    """What a version of this seed says to a request: one engine alone, in virtual time."""
    spec = VirtualEngineSpec.model_validate({**ENGINE, "seed": seed})
    identity = worker_pb2.Identity(name="alone", role=worker_pb2.ROLE_DECODE, model="m", version="v", revision="r")
    kind = worker_pb2.API_CHAT_COMPLETIONS if ask.chat else worker_pb2.API_COMPLETIONS
    reply = RecordedReply()
    async with VirtualEngine(spec, KvTransferSpec(), identity, disaggregated=False, clock=VirtualClock()) as engine:
        await engine.generate(Call("cmpl-1", kind, _bytes(ask), whole_reason="aggregated"), reply)
    return read_stream(ask, [*reply.events, "[DONE]"]) if ask.stream else read_body(ask, reply.json)


def _bytes(ask: Ask) -> bytes:
    return json.dumps(ask.body("m")).encode()
