"""The end and the numbers of a stream of Responses, and what a response says of state: there is none.

An answer that was cut ends in `response.incomplete`, as OpenAI has it, and all events are numbered in their order.
"""

from typing import Any, Final

Event = dict[str, Any]

_INTERNAL: Final = ("kv_transfer_params", "ec_transfer_params", "input_messages", "output_messages")
_ENDS: Final = ("response.completed", "response.incomplete", "response.failed")


def stateless(response: Event, id: str) -> Event:
    """A response as clients get it."""
    told = {name: value for name, value in response.items() if name not in _INTERNAL}
    return {**told, "id": id, "error": None, "store": False}


class ResponseStream:
    """Mends one stream. `id` is the response's."""

    def __init__(self, id: str) -> None:
        self.complete = False
        """The response has ended."""
        self._id = id
        self._count = 0

    def feed(self, event: Event) -> Event:
        """The event that goes to the client for one of the engine's."""
        told = {**event, "sequence_number": self._count}
        self._count += 1
        if "response" in event:
            told["response"] = stateless(event["response"], self._id)
        if event["type"] in _ENDS:
            told["type"] = f"response.{told['response']['status']}"
            self.complete = True
        return told
