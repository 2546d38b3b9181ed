"""From plans to the pods of this machine: one worker for each replica, with its GPUs.

The pod templates are the operator's, as they are, but for what a cluster provides around them: a claim for the models
(here TANDEM_CACHE keeps them), and the GPUs of a node.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError
from tandem_api.inference_service.roles import GPU
from tandem_operator.planning import Role, RolePlan, ServicePlan

from tandem_cli.platform.errors import PlatformError
from tandem_cli.platform.gpus import deal
from tandem_cli.runner import PodTemplate

MODEL_VOLUME: Final = "tandem-model"
DEVICES: Final = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker that is to run, and where it belongs."""

    name: str
    service: str
    """namespace/name."""
    version: str
    revision: str
    role: Role
    port: int
    """Of the worker protocol."""
    ports: tuple[int, ...]
    """All that it listens on."""
    template: PodTemplate


def make_workers(plans: Sequence[ServicePlan], *, gpus: Sequence[str] | None) -> tuple[Worker, ...]:
    """Every worker of every plan.

    Args:
        plans: the services.
        gpus: the machine's, for those that ask for some; None: not named, workers see what there is.

    Raises:
        PlatformError: there are not enough GPUs, or a pod needs what only a cluster has.
    """
    named = [
        (_name(plan, revision.version, role.role, index), plan, revision, role)
        for plan in plans
        for revision in plan.revisions
        for role in revision.roles
        for index in range(role.replicas)
    ]
    needs = {name: _gpus_of(role, dealt=gpus is not None) for name, _, _, role in named}
    hands = deal(gpus or (), needs)
    workers = []
    for name, plan, revision, role in named:
        env = {DEVICES: ",".join(hands[name])} if gpus is not None else {}
        pod = _localised(role.pod_template, env)
        try:
            template = PodTemplate.model_validate(pod).named(name, plan.service.metadata.namespace)
        except ValidationError as error:
            problem = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise PlatformError(
                f"{name} can't run on this machine: {problem}", hint="use a hf://, s3:// or file:// source here"
            ) from None
        if secrets := [volume.name for volume in template.spec.volumes if volume.secret is not None]:
            raise PlatformError(
                f"{name} can't run on this machine: its volume {secrets[0]} is a Secret, of which there are none here",
                hint="give secrets as environment variables: a secretKeyRef's key is looked up in this environment",
            )
        containers = template.spec.containers
        ports = tuple(port.container_port for container in containers for port in container.ports)
        workers.append(
            Worker(
                name=name,
                service=plan.service.key,
                version=revision.version,
                revision=revision.revision,
                role=role.role,
                port=role.config.ports.grpc,
                ports=ports,
                template=template,
            )
        )
    return tuple(workers)


def _name(plan: ServicePlan, version: str, role: Role, index: int) -> str:
    metadata = plan.service.metadata
    space = "" if metadata.namespace == "default" else f"{metadata.namespace}-"
    return f"{space}{metadata.name}-{version}-{role}-{index}"


def _gpus_of(role: RolePlan, *, dealt: bool) -> int:
    """By the limits of its containers; a manifest without them needs one for each rank where GPUs are dealt."""
    containers: Sequence[Mapping[str, Any]] = role.pod_template["spec"]["containers"]
    limits = sum(int(container.get("resources", {}).get("limits", {}).get(GPU, 0)) for container in containers)
    if limits or not dealt or not role.config.engine.fetches:
        return limits
    return role.config.tensor_parallel


def _localised(template: Mapping[str, Any], env: Mapping[str, str]) -> dict[str, Any]:
    """The template with an empty folder for the model, into which a link to the cache goes, and `env` in containers."""
    spec: Mapping[str, Any] = template["spec"]
    return {
        **template,
        "spec": {
            **spec,
            "volumes": [
                {"name": MODEL_VOLUME, "emptyDir": {}} if volume["name"] == MODEL_VOLUME else volume
                for volume in spec.get("volumes", ())
            ],
            "containers": [
                {**one, "env": [*one.get("env", ()), *({"name": name, "value": env[name]} for name in env)]}
                for one in spec["containers"]
            ],
        },
    }
