"""What the scheduler has a step compute, read out of its output."""

from collections.abc import Iterator
from typing import Any, NamedTuple


class Scheduled(NamedTuple):
    """A request in a step: its tokens `computed` before, and `until` which the step computes."""

    request_id: str
    computed: int
    until: int

    def of_prompt(self, prompt_tokens: int) -> int:
        """How many of the prompt's tokens are computed in this step."""
        return max(0, min(self.until, prompt_tokens) - self.computed)

    def completes(self, prompt_tokens: int) -> bool:
        """Whether the prompt's last token is computed in this step."""
        return self.computed < prompt_tokens <= self.until


def scheduled(output: Any) -> Iterator[Scheduled]:
    """All requests of a SchedulerOutput."""
    counts = output.num_scheduled_tokens
    for new in output.scheduled_new_reqs:
        computed = new.num_computed_tokens
        yield Scheduled(new.req_id, computed, computed + counts[new.req_id])
    known = output.scheduled_cached_reqs
    for request_id, computed in zip(known.req_ids, known.num_computed_tokens, strict=True):
        yield Scheduled(request_id, computed, computed + counts[request_id])
