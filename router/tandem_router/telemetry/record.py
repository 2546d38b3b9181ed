"""What happened to one inference request, gathered while it runs: metrics, access log and traces are made of it.

It is internal. `tandem_router.telemetry.logs.Access` is what of it people read, in the log's names and units.
"""

import msgspec


class Record(msgspec.Struct):
    """Moments are seconds of the router's clock, durations are seconds."""

    received: float
    status: int = 0
    """HTTP status of the response; 499 where the client went away before one."""
    error: str = ""
    """Why it failed, as a label of few values; empty where it did not. A stream may fail after status 200."""
    queued: float = 0.0
    held: bool = False
    """It came while its version had no pair, and waited for one."""
    prefill: float = 0.0
    """The last prefill's, as the router saw it."""
    ttft: float | None = None
    """Until the first bytes of a stream; of a whole answer, until its worker said that it has the first token. None
    where that was not told."""
    worker_ttft: float | None = None
    """From the submit to the first token, as the decode worker measured it; None where it did not."""
    cut: bool = False
    """It was a stream, and ended before its end."""
    finished: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated_tokens: int = 0
    finish_reason: str = ""
    prefill_worker: str = ""
    decode_worker: str = ""
    kv_outcome: str = ""
    kv_reason: str = ""
    kv_connector: str = ""
    kv_peer: str = ""
    kv_bytes: int = 0
    kv_blocks: int = 0
    kv_seconds: float = 0.0
    retries: list[tuple[str, str]] = []
    """Role and reason of each attempt that another one followed."""
    slow_client: bool = False

    @property
    def left(self) -> bool:
        """The client went away, or was cut off: no fault of a worker."""
        return self.error.startswith("client_")

    @property
    def failed(self) -> bool:
        """It failed, by no doing of its client."""
        return self.status >= 500 or (self.status == 200 and bool(self.error) and not self.left)

    def server_timing(self) -> str:
        """The value of `Server-Timing`, durations in milliseconds.

        `prefill;dur=210.3, kv;dur=9.1;desc="transferred bytes=2949120 blocks=2 connector=grpc peer=llama-v1-prefill-0"`

        `prefill` is there where a prefill worker computed the prompt. `kv` is always there; its desc begins with the
        outcome (transferred, recomputed, whole), and has `reason=` where there is one, bytes, blocks, connector and
        peer where KV was moved.
        """
        words = [self.kv_outcome or "unknown"]
        if self.kv_reason:
            words.append(f"reason={self.kv_reason}")
        if self.kv_bytes:
            words += (f"bytes={self.kv_bytes}", f"blocks={self.kv_blocks}")
            words += (f"connector={self.kv_connector}", f"peer={self.kv_peer}")
        kv = f'kv;dur={self.kv_seconds * 1000:.1f};desc="{" ".join(words)}"'
        return f"prefill;dur={self.prefill * 1000:.1f}, {kv}" if self.prefill else kv
