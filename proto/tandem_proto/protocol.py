"""Numbers and channel settings of the worker protocol, as both of its ends use them.

The messages are in `tandem/v1/*.proto`; what a message can't say stands here.
"""

from typing import Final

PROTOCOL_MIN: Final = 1
PROTOCOL_MAX: Final = 1

MESSAGES: Final = "messages"
"""Feature of a worker that knows the API kinds for Anthropic's Messages and their counting."""

RESPONSES: Final = "responses"
"""Feature of a worker that knows the API kind for OpenAI's Responses."""

EMBEDDINGS: Final = "embeddings"
"""Feature of a worker that knows the API kind for OpenAI's Embeddings, if only to say that its model has none."""

MAX_MESSAGE_BYTES: Final = 256 * 1024
"""Of one message of a session. Larger bodies and answers go in pieces, other calls' messages between them."""

PIECE_BYTES: Final = 64 * 1024
"""Of one call's body or answer in one message, so that no call fills a message alone."""

FRAME_WAIT_SECONDS: Final = 0.002
"""How long a frame may wait for more events. A call's first data never waits."""

LIVENESS: Final = "liveness"
"""`grpc.health.v1` service that is SERVING while the process should not be restarted; draining leaves it so."""

READINESS: Final = "readiness"
"""`grpc.health.v1` service that is SERVING while the engine can answer and the worker does not drain."""

CHANNEL_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
)
"""For channels and servers: a peer that has vanished is noticed within 15 seconds, and an idle one is kept."""
