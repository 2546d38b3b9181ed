"""`InferenceService` (tandem.dev/v1alpha1): what people write, as pydantic types."""

from tandem_api.inference_service.engine import EngineSpec, VirtualEngineSpec
from tandem_api.inference_service.experiment import ExperimentSpec
from tandem_api.inference_service.kubernetes import ObjectMeta
from tandem_api.inference_service.roles import Autoscaling, Parallelism, RoleSpec, merged
from tandem_api.inference_service.rollout import RolloutSpec
from tandem_api.inference_service.routing import KvTransferSpec, QueueSpec, RoutingSpec, StickyBy
from tandem_api.inference_service.service import GROUP, KIND, VERSION, InferenceService, InferenceServiceSpec
from tandem_api.inference_service.source import Source
from tandem_api.inference_service.versions import VersionSpec

__all__ = [
    "GROUP",
    "KIND",
    "VERSION",
    "Autoscaling",
    "EngineSpec",
    "ExperimentSpec",
    "InferenceService",
    "InferenceServiceSpec",
    "KvTransferSpec",
    "ObjectMeta",
    "Parallelism",
    "QueueSpec",
    "RoleSpec",
    "RolloutSpec",
    "RoutingSpec",
    "Source",
    "StickyBy",
    "VersionSpec",
    "VirtualEngineSpec",
    "merged",
]
