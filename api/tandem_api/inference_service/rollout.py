"""How workers of a changed version replace the former ones: `rollout`."""

from typing import Self

from pydantic import ConfigDict, model_validator

from tandem_api.inference_service.base import Spec, cel, invalid
from tandem_api.inference_service.quantities import CountOrPercent, Duration

_BOTH_ZERO = "maxSurge and maxUnavailable must not both be 0: no worker could ever be replaced"


class RolloutSpec(Spec):
    """How many workers of each role may be more, or fewer, than asked for while a version changes."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                "!(string(self.maxSurge) in ['0', '0%'] && string(self.maxUnavailable) in ['0', '0%'])",
                _BOTH_ZERO,
            )
        )
    )

    max_surge: CountOrPercent = 1
    """Workers beyond those asked for; 0 where there are no spare GPUs."""
    max_unavailable: CountOrPercent = 0
    """Workers fewer than asked for."""
    queue_timeout: Duration = 120.0
    """With maxSurge 0: how long requests wait in a router while no pair is left, then 503 with Retry-After."""

    @model_validator(mode="after")
    def _can_move(self) -> Self:
        if {self.max_surge, self.max_unavailable} <= {0, "0%"}:
            raise invalid(_BOTH_ZERO)
        return self
