"""A production manifest without its GPUs: the same services, versions, roles and replicas on virtual engines."""

from typing import Final

from tandem_api.inference_service import InferenceService, RoleSpec, VersionSpec
from tandem_api.inference_service.kubernetes import ResourceRequirements

_REHEARSED: Final = {"virtualModel": "virtualModel"}
"""Engines that need nothing which a rehearsal lacks stay what they are; all others become virtual."""


def rehearse(service: InferenceService) -> InferenceService:
    """The service with virtual engines; what only real ones need (GPUs, their nodes, images, sources) is gone."""
    spec = service.spec
    return service.model_copy(
        update={
            "spec": spec.model_copy(
                update={
                    "versions": tuple(_version(version) for version in spec.versions),
                    "prefill": _role(spec.prefill),
                    "decode": _role(spec.decode),
                    # The virtual engine's blocks move over gRPC; what nixl would use is not there.
                    "kv_transfer": spec.kv_transfer.model_copy(update={"connector": "grpc"}),
                }
            )
        }
    )


def _version(version: VersionSpec) -> VersionSpec:
    return version.model_copy(
        update={
            "engine": version.engine.model_copy(update={"type": _REHEARSED.get(version.engine.type, "virtual")}),
            "source_secret": None,
            "image": None,
            "prefill": _role(version.prefill),
            "decode": _role(version.decode),
        }
    )


def _role(role: RoleSpec | None) -> RoleSpec | None:
    if role is None:
        return None
    dropped = {
        "resources": ResourceRequirements(),
        "node_selector": {},
        "tolerations": (),
        "affinity": None,
        "topology_spread_constraints": (),
        "priority_class_name": None,
        "runtime_class_name": None,
        "scheduler_name": None,
        "image_pull_secrets": (),
        "model_cache": None,
        "volumes": (),
        "volume_mounts": (),
        "env": tuple(variable for variable in role.env if variable.value_from is None),
    }
    # Only what is set: in a version's overrides, an empty field would replace the service's.
    return role.model_copy(update={name: value for name, value in dropped.items() if name in role.model_fields_set})
