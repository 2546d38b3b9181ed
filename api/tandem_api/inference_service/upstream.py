"""Servers that the user runs, as what computes: the `engine.upstream` of a version."""

from typing import Annotated, Final, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from tandem_api.inference_service.base import DnsLabel, Matches, Spec, UniqueBy, cel, invalid
from tandem_api.inference_service.kubernetes import SecretKeySelector
from tandem_api.inference_service.quantities import Duration, PositiveDuration

Capability = Literal[
    "chat", "embedding", "function_call", "vision", "fine_tuning", "reasoning", "classification", "code"
]

_DIMENSION: Final = "must give a dimension where it has the capability embedding, and only there"
_TWICE: Final = "must not name the same url and model in two endpoints"
_ROUTED: Final = "must have the capability chat or embedding: nothing else is sent to it"

UpstreamUrl = Annotated[
    str,
    Field(max_length=256),
    Matches(
        r"https?://(\[[0-9a-fA-F:]+\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?)(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?",
        "must be an http:// or https:// URL with a host, and without user, query or fragment",
    ),
]
"""A server's base URL; the API's path comes behind it."""


class UpstreamEndpoint(Spec):
    """One server."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            ("(has(self.capabilities) && 'embedding' in self.capabilities) == has(self.dimension)", _DIMENSION),
            ("!has(self.capabilities) || 'chat' in self.capabilities || 'embedding' in self.capabilities", _ROUTED),
        )
    )

    label: DnsLabel
    """What logs and errors call it. Unique among the endpoints."""
    url: UpstreamUrl
    """Where it is: `http://llama-server:8080`. A path in it is kept; /v1 at its end may be given or left out."""
    model: str = Field(min_length=1, max_length=253)
    """What the server calls the model."""
    api_key: SecretKeySelector | None = None
    """A Secret's key with the server's API key. Without: no Authorization header."""
    capabilities: Annotated[tuple[Capability, ...], Field(min_length=1, max_length=8)] = ("chat",)
    """What it can do. `chat` and `embedding` decide what it is sent, the others tell people."""
    dimension: int | None = Field(None, ge=1, le=2**20)
    """Of its embeddings: answers of another length are refused."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if ("embedding" in self.capabilities) != (self.dimension is not None):
            raise invalid(_DIMENSION)
        if not {"chat", "embedding"} & set(self.capabilities):
            raise invalid(_ROUTED)
        return self


class UpstreamRetries(Spec):
    """How often and when a call is tried again that could not be connected, or got 429 or 5xx before any answer."""

    attempts: int = Field(4, ge=1, le=10)
    """In all, over all endpoints."""
    first_delay: Duration = 0.5
    """Before all endpoints are tried a second time; it doubles each time, and a random part of it is left out."""
    max_delay: Duration = 8.0
    """The most; a server's Retry-After counts up to it."""


class UpstreamSpec(Spec):
    """Servers with OpenAI's API (vLLM, llama-server, Ollama, ...) that answer in the place of an engine of Tandem's."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            ("self.endpoints.all(a, self.endpoints.exists_one(b, a.url == b.url && a.model == b.model))", _TWICE)
        )
    )

    endpoints: Annotated[tuple[UpstreamEndpoint, ...], Field(min_length=1, max_length=16), UniqueBy("label")]
    """Several share the calls: each goes to the one with the fewest under way, and to another where that one fails."""
    max_in_flight: int = Field(256, ge=1)
    """Calls that one worker has under way; more wait."""
    connect_timeout: PositiveDuration = 5.0
    """For a connection."""
    read_timeout: PositiveDuration = 120.0
    """Of silence, before an answer and in it. A service's requestTimeout ends what takes longer in all."""
    probe_interval: PositiveDuration = 10.0
    """Between two looks at an endpoint's list of models."""
    retries: UpstreamRetries = UpstreamRetries()
    """When calls are tried again."""

    @model_validator(mode="after")
    def _none_twice(self) -> Self:
        if len({(endpoint.url, endpoint.model) for endpoint in self.endpoints}) < len(self.endpoints):
            raise invalid(_TWICE)
        return self


def key_variable(endpoint: int) -> str:
    """The environment variable of a worker that holds the key of an endpoint, by its place in the list."""
    return f"TANDEM_UPSTREAM_KEY_{endpoint}"
