"""Prompts' KV in the cache: computed or arrived, its blocks' content is noted, and an answer's state follows from it.

The one place where the bytes of a sequence (`kv_bytes`) and the bookkeeping of blocks (`blocks`) meet.
"""

from dataclasses import dataclass

from tandem_engine.virtual.blocks import BlockCache
from tandem_engine.virtual.kv_bytes import KvShape, Rows, answer_state, digest, kv_rows
from tandem_engine.virtual.planning import Sequence


@dataclass(frozen=True, slots=True)
class PromptKv:
    """Of one engine."""

    shape: KvShape
    cache: BlockCache

    def compute(self, sequence: Sequence) -> Rows:
        """The KV of a whole prompt, computed."""
        rows = kv_rows(sequence.prompt, self.shape.row)
        self.learn(sequence, rows[sequence.reused :])
        return rows

    def state(self, sequence: Sequence) -> int:
        """What the answer to a prompt that is computed here follows from."""
        return self.learn(sequence, kv_rows(sequence.prompt, self.shape.row)[sequence.reused :])

    def learn(self, sequence: Sequence, rows: Rows) -> int:
        """Notes what the prompt's full blocks hold, and returns the state that its answer follows from.

        `rows` are the KV of the prompt but for what was reused; the last token's own is not read for the state.
        """
        size = self.shape.block_size
        reused = sequence.reused // size
        for index in range(reused, len(sequence.keys)):
            at = (index - reused) * size
            self.cache.fill(sequence.blocks[index], sequence.keys[index], digest(rows[at : at + size]))
        last = len(sequence.prompt) - 1
        full = last // size
        tail = rows[full * size - sequence.reused : last - sequence.reused]
        contents = [self.cache.content(block) for block in sequence.blocks[:full]]
        return answer_state(contents, tail, sequence.prompt[last])
