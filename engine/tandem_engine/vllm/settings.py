"""What the worker's configuration tells a connector inside the engine's processes: it crosses as JSON."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tandem_proto.channels import Tls

NAME = "tandem"
"""Key in vLLM's kv_connector_extra_config."""


@dataclass(frozen=True, slots=True)
class TransferSettings:
    """Of one worker. Rank n serves port + n."""

    host: str
    port: int
    tls_folder: str | None
    lease_ttl: float
    max_staged_bytes: int
    """For each rank."""
    max_fetches: int

    @property
    def tls(self) -> Tls | None:
        return Tls(Path(self.tls_folder)) if self.tls_folder else None

    def to_extra_config(self) -> dict[str, Any]:
        return {NAME: json.dumps(asdict(self))}

    @classmethod
    def of(cls, vllm_config: Any) -> "TransferSettings":
        """Raises ValueError where they are missing: the connector was not loaded by Tandem."""
        text = vllm_config.kv_transfer_config.get_from_extra_config(NAME, None)
        if text is None:
            raise ValueError("this connector is set up by Tandem: use `kvTransfer` in the manifest")
        return cls(**json.loads(text))
