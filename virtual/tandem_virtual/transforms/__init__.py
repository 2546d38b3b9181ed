"""What a proxy does to a conversation before it forwards it: functions from turns to turns, by the names people use."""

from collections.abc import Callable, Mapping
from typing import Final

from tandem_api.conversations import Turn

from tandem_virtual.transforms.compaction import by_rounds, by_rounds_with_files, without_old_thinking
from tandem_virtual.transforms.summary import by_need, on_request

Transform = Callable[[tuple[Turn, ...]], tuple[Turn, ...]]

TRANSFORMS: Final[Mapping[str, Transform]] = {
    "compact-thinking": without_old_thinking,
    "compact-round-only": by_rounds,
    "compact-round-files": by_rounds_with_files,
    "claude-code-compact": on_request,
    "claude-code-strategy": by_need,
}

__all__ = ["TRANSFORMS", "Transform"]
