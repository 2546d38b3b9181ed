"""What a request's limits leave of an answer: `max_tokens` and stop sequences cut a virtual model as any other."""

from dataclasses import dataclass, replace

from tandem_api.conversations import Ask
from tandem_api.replies import Block, Finish, Text, ToolCall

from tandem_virtual.chunking import shortened
from tandem_virtual.estimating import BYTES_PER_TOKEN, CALL_TOKENS, estimate
from tandem_virtual.models import Says


@dataclass(frozen=True, slots=True)
class Limited:
    """An answer within its request's limits."""

    says: Says
    stop_sequence: str = ""


def limited(says: Says, ask: Ask) -> Limited:
    """Ends an answer at the first stop sequence in its text, and where its tokens are used up.

    Tool calls are never cut in two: one that does not fit is left out.
    """
    stopped = _stopped(says, ask.stops)
    if ask.max_tokens is None or stopped.says.completion <= ask.max_tokens:
        return stopped
    return _shortened(stopped, ask.max_tokens)


def _stopped(says: Says, stops: tuple[str, ...]) -> Limited:
    for index, block in enumerate(says.blocks):
        if not isinstance(block, Text):
            continue
        found = min(((place, stop) for stop in stops if (place := block.text.find(stop)) >= 0), default=None)
        if found is not None:
            kept = _cut(says, index, found[0])
            return Limited(replace(kept, completion=_tokens(kept), finish=Finish.STOP_SEQUENCE), found[1])
    return Limited(says)


def _shortened(answer: Limited, max_tokens: int) -> Limited:
    """`answer` has more than `max_tokens` tokens."""
    says, left = answer.says, max_tokens
    for index, block in enumerate(says.blocks):
        cost = _cost(block)
        if cost > left:
            says = _cut(says, index, _fitting(block, left))
            break
        left -= cost
    else:
        # All of it fits: what it counts more than it says (a proxy does) is beyond the limit.
        return replace(answer, says=replace(says, completion=max_tokens))
    return Limited(replace(says, completion=_tokens(says), finish=Finish.LENGTH))


def _cut(says: Says, index: int, length: int) -> Says:
    """The blocks up to one, which keeps `length` characters; a call that keeps less than all is left out."""
    block = says.blocks[index]
    if isinstance(block, ToolCall):
        return replace(says, blocks=says.blocks[:index], pieces=says.pieces[:index])
    kept = replace(block, text=block.text[:length])
    pieces = shortened(says.pieces[index], length)
    return replace(says, blocks=(*says.blocks[:index], kept), pieces=(*says.pieces[:index], pieces))


def _fitting(block: Block, tokens: int) -> int:
    """Characters of a text that are no more than some tokens."""
    room = block.text.encode("utf-8", "replace")[: tokens * BYTES_PER_TOKEN]
    return len(room.decode("utf-8", "ignore"))


def _cost(block: Block) -> int:
    return CALL_TOKENS if isinstance(block, ToolCall) else estimate(block.text)


def _tokens(says: Says) -> int:
    return sum(map(_cost, says.blocks))
