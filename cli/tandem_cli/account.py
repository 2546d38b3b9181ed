"""What an answer took, and how its KV got to the decode worker: the line below an answer."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from tandem_cli.text import plural, seconds, size

_ENTRY: Final = re.compile(r'([a-z]+)((?:;[a-z]+=(?:"[^"]*"|[^;,]*))*)')
_PARAMETER: Final = re.compile(r';([a-z]+)=(?:"([^"]*)"|([^;,]*))')
_INDEX: Final = re.compile(r"(prefill|decode)-[^-]+$")


@dataclass(frozen=True, slots=True)
class Timing:
    """A router's `Server-Timing`. Durations are in seconds; `outcome` is empty where the router does not tell."""

    prefill: float | None = None
    outcome: str = ""
    """transferred, recomputed or whole."""
    reason: str = ""
    kv: float = 0.0
    kv_bytes: int = 0
    blocks: int = 0
    connector: str = ""
    peer: str = ""

    @classmethod
    def parse(cls, header: str) -> Self:
        """Reads the header's value; what it does not know it reads over."""
        entries = {
            name: {key: quoted or plain for key, quoted, plain in _PARAMETER.findall(parameters)}
            for name, parameters in _ENTRY.findall(header)
        }
        kv = entries.get("kv", {})
        outcome, *words = kv.get("desc", "").split(" ")
        details = dict(word.partition("=")[::2] for word in words)
        return cls(
            prefill=_milliseconds(entries["prefill"]) if "prefill" in entries else None,
            outcome=outcome,
            reason=details.get("reason", ""),
            kv=_milliseconds(kv),
            kv_bytes=_count(details.get("bytes", "")),
            blocks=_count(details.get("blocks", "")),
            connector=details.get("connector", ""),
            peer=details.get("peer", ""),
        )

    @property
    def transferred(self) -> bool:
        return self.outcome == "transferred"


def _milliseconds(entry: Mapping[str, str]) -> float:
    """The duration of an entry in seconds; 0 where it has none that can be read."""
    try:
        return float(entry.get("dur", "")) / 1000
    except ValueError:
        return 0.0


def _count(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


@dataclass(frozen=True, slots=True)
class Account:
    """One answer. Durations are in seconds and of the client's own clock."""

    timing: Timing
    first_token: float
    """From sending the request."""
    generating: float
    """From the first token to the last."""
    tokens: int
    """Of the answer."""

    def line(self) -> str:
        """`prefill 0.21 s · KV 2.9 MB (2 blocks) over grpc from prefill-0 in 9 ms · first token 0.29 s · ...`."""
        parts = []
        if self.timing.prefill is not None:
            parts.append(f"prefill {seconds(self.timing.prefill)}")
        if self.timing.outcome:
            parts.append(self._kv())
        parts.append(f"first token {seconds(self.first_token)}")
        if self.tokens > 1 and self.generating > 0:
            parts.append(f"{(self.tokens - 1) / self.generating:.0f} tok/s")
        parts.append(plural(self.tokens, "token"))
        return " · ".join(parts)

    def _kv(self) -> str:
        timing = self.timing
        if timing.transferred:
            found = _INDEX.search(timing.peer)
            peer = found[0] if found else timing.peer
            what = f"{size(timing.kv_bytes)} ({plural(timing.blocks, 'block')})"
            return f"KV {what} over {timing.connector} from {peer} in {seconds(timing.kv)}"
        because = f" ({timing.reason})" if timing.reason else ""
        return f"KV recomputed{because}" if timing.outcome == "recomputed" else f"prompt run whole on decode{because}"
