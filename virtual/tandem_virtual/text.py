"""What a virtual model says: each token follows from a state, a seed and its position, and from nothing else.

The state stands for the KV cache of the whole prompt (`tandem_engine.virtual` derives it from the cache's bytes), so a
different prompt, or a damaged cache, gives a different text. Tokens are drawn by position, so that a sequence that was
preempted goes on as if it had not been.
"""

from dataclasses import dataclass
from typing import Final

from tandem_virtual.mixing import mix
from tandem_virtual.tokens import WORD_COUNT, Form, word_id

_SENTENCE: Final = 9
"""Words of a sentence."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """The text that follows one prompt: `length` tokens, the i-th by `token(i)`."""

    state: int
    seed: int
    length: int

    def token(self, position: int) -> int:
        """The id at a position, 0 and up; defined beyond `length` too, for callers that go on (`ignore_eos`)."""
        place = position % _SENTENCE
        if position == 0:
            form = Form.CAPITAL
        elif place == 0:
            form = Form.SPACED_CAPITAL
        elif place == _SENTENCE - 1 or position == self.length - 1:
            form = Form.SPACED_FULL_STOP
        else:
            form = Form.SPACED
        return word_id(mix(self.state, self.seed, position) % WORD_COUNT, form)

    def logprob(self, position: int) -> float:
        """A log probability for the token at a position: in -1..0, made up, and always the same."""
        return -(mix(self.state, self.seed, position, 1) % 1000) / 1000


def continuation(state: int, seed: int, mean_length: int) -> Continuation:
    """The text for a state and a seed. Lengths are spread evenly over 1..2 * mean_length - 1."""
    return Continuation(state, seed, 1 + mix(state, seed) % (2 * mean_length - 1))
