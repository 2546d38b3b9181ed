"""`InferenceService` (tandem.dev/v1alpha1): what people write, as pydantic types."""

from tandem_api.inference_service.engine import EngineSpec, VirtualEngineSpec
from tandem_api.inference_service.routing import KvTransferSpec, RoutingSpec, StickyBy

__all__ = ["EngineSpec", "KvTransferSpec", "RoutingSpec", "StickyBy", "VirtualEngineSpec"]
