"""Limits of the platform on numbers of a request, for engines that pass a request's own JSON on."""

from typing import Any, TypeGuard

from tandem_engine.errors import InvalidRequest


def bring_into_range(body: dict[str, Any], max_tokens: int, *, least_top_p: float = 0.0) -> None:
    """Clamps what is merely too much, in place (requirements 7.3, 16.1 C18).

    Args:
        body: a request of any API.
        max_tokens: the platform's cap.
        least_top_p: what a smaller top_p becomes.

    Raises:
        InvalidRequest: a limit of tokens below 1, a temperature below 0, or a top_k below -1, which is "off".
    """
    for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
        if is_number(value := body.get(name)):
            if value <= 0:
                raise InvalidRequest(f"{name} must be at least 1, not {value}", param=name)
            body[name] = min(value, max_tokens)
    if is_number(value := body.get("temperature")):
        if value < 0:
            raise InvalidRequest(f"temperature must be at least 0, not {value}", param="temperature")
        body["temperature"] = min(value, 2.0)
    if is_number(value := body.get("top_k")) and value < -1:
        raise InvalidRequest(f"top_k must be at least 0, or -1 for off, not {value}", param="top_k")
    if is_number(value := body.get("top_p")):
        body["top_p"] = min(max(value, least_top_p), 1.0)


def is_number(value: object) -> TypeGuard[float]:
    """What is none is left for the engine to refuse."""
    return isinstance(value, int | float) and not isinstance(value, bool)
