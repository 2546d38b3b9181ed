"""What chat and text completions share on the way in: parsing that answers bad input with a clear 400, and its limits.

Pydantic stands at this edge only. Fields that nobody knows are let through, as OpenAI's server and vLLM's do.
"""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError


class RequestError(Exception):
    """The body can't be served. The message is safe for clients; `param` is the field to blame."""

    def __init__(self, message: str, *, param: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class Lenient(BaseModel):
    """An object of a request: unknown members are tolerated."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class StreamOptions(Lenient):
    """`stream_options`. The last two are vLLM's."""

    include_usage: bool = False
    continuous_usage_stats: bool = False


def _as_stops(value: Any) -> Any:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value


Stops = Annotated[tuple[str, ...], BeforeValidator(_as_stops), Field(max_length=16)]


class SamplingRequest(Lenient):
    """Fields of both kinds of completions. Values that may be out of range are checked by `sampling`."""

    model: str | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: int | None = Field(1, ge=1, le=128)
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: Stops = ()
    max_tokens: int | None = None
    min_tokens: int | None = Field(0, ge=0)
    ignore_eos: bool | None = False
    prompt_logprobs: int | None = None
    cache_salt: str | None = None
    user: str | None = None

    @property
    def choices(self) -> int:
        return self.n or 1


class Sampling(Lenient):
    """How to sample, within all limits."""

    temperature: float
    top_p: float
    seed: int | None
    stop: tuple[str, ...]
    max_tokens: int | None
    """None: as many as fit."""
    min_tokens: int
    ignore_eos: bool


R = TypeVar("R", bound=BaseModel)


def parse(kind: type[R], body: bytes) -> R:
    """A request from a body's JSON.

    Raises:
        RequestError: it is no JSON, or not of this kind. Says where, never how the server reads it.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise RequestError("the body is not valid JSON") from None
        place = ".".join(str(part) for part in first["loc"])
        if not place:
            raise RequestError("the body must be a JSON object") from None
        message = first["msg"].removeprefix("Value error, ")
        raise RequestError(f"{place}: {message}", param=str(first["loc"][0])) from None


def sampling(request: SamplingRequest, *, cap: int, max_tokens: int | None = None) -> Sampling:
    """Refuses what makes no sense and clamps what is merely too much (requirements 7.3, 16.1 C18).

    Args:
        request: the parsed body.
        cap: the platform's limit of max_tokens.
        max_tokens: where the API has another field for it that goes first.

    Raises:
        RequestError: a temperature below 0, a top_k below -1 (which is "off", as 0 is), or max_tokens below 1.
    """
    if (request.temperature or 0) < 0:
        raise RequestError(f"temperature must be 0 or more, not {request.temperature}", param="temperature")
    if request.top_k is not None and request.top_k < -1:
        raise RequestError(f"top_k must be 0 or more, or -1 for off, not {request.top_k}", param="top_k")
    field, asked = (
        ("max_completion_tokens", max_tokens) if max_tokens is not None else ("max_tokens", request.max_tokens)
    )
    if asked is not None and asked < 1:
        raise RequestError(f"{field} must be 1 or more, not {asked}", param=field)
    if request.stream_options is not None and not request.stream:
        raise RequestError("stream_options may be given only where stream is true", param="stream_options")
    temperature = 1.0 if request.temperature is None else min(request.temperature, 2.0)
    return Sampling(
        temperature=temperature,
        top_p=1.0 if request.top_p is None else min(max(request.top_p, 0.0), 1.0),
        seed=request.seed,
        stop=tuple(stop for stop in request.stop if stop),
        max_tokens=min(asked, cap) if asked is not None else cap,
        min_tokens=request.min_tokens or 0,
        ignore_eos=bool(request.ignore_eos),
    )
