"""What an answer says as its bytes come: pure, so that recorded bytes and moments give the same sample again."""

from typing import Final

from tandem_cli.benchmark.events import Heard
from tandem_cli.benchmark.protocols import Api
from tandem_cli.benchmark.samples import Sample

CUT: Final = "cut stream"
EVENT: Final = "error event"
GARBLED: Final = "unreadable answer"


class Hearing:
    """One answer. Events that come in one piece have one moment."""

    def __init__(self, api: Api, due: float, sent: float) -> None:
        self._api = api
        self._due = due
        self._sent = sent
        self._held = b""
        self._moments: list[float] = []
        self._prompt_tokens = 0
        self._output_tokens = 0
        self._over = False
        self._error = ""

    def piece(self, data: bytes, moment: float) -> None:
        """More bytes of a stream."""
        *lines, self._held = (self._held + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._event(line[5:].strip(), moment)

    def streamed(self, end: float) -> Sample:
        """The stream has ended."""
        return self.sample(end, self._error or ("" if self._over else CUT))

    def whole(self, body: bytes, end: float) -> Sample:
        """The answer came without a stream."""
        try:
            heard = self._api.heard(body)
        except ValueError:
            return self.sample(end, GARBLED)
        self._count(heard)
        return self.sample(end, EVENT if heard.failed else "")

    def sample(self, end: float, error: str) -> Sample:
        """It is over, whatever came of it."""
        return Sample(
            due=self._due,
            sent=self._sent,
            end=end,
            moments=tuple(self._moments),
            prompt_tokens=self._prompt_tokens,
            output_tokens=self._output_tokens or len(self._moments),
            error=error,
        )

    def _event(self, data: bytes, moment: float) -> None:
        try:
            heard = self._api.heard(data)
        except ValueError:
            self._error = self._error or GARBLED
            return
        if heard.content:
            self._moments.append(moment)
        self._count(heard)
        self._over = self._over or heard.over
        if heard.failed:
            self._error = self._error or EVENT

    def _count(self, heard: Heard) -> None:
        self._prompt_tokens = heard.prompt_tokens or self._prompt_tokens
        self._output_tokens = heard.output_tokens or self._output_tokens
