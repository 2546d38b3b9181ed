"""Which images there are: Tandem's own, whose programs are the checkout's."""

from typing import Final

from tandem_cli.runner import PodConfigError

_REPOSITORIES: Final = frozenset(
    {"tandem-worker-vllm", "tandem-worker-virtual", "tandem-router", "tandem-operator", "tandem-registry"}
)
_MISSING_TAGS: Final = frozenset({"typo", "missing"})
"""So that a test can ask for an image that is not there."""


def check_image(image: str) -> None:
    """Raises `PodConfigError`, as of a pull that fails, for an image that is not there."""
    repository, _, tag = image.partition("@")[0].rpartition("/")[2].partition(":")
    if repository not in _REPOSITORIES or tag in _MISSING_TAGS:
        raise PodConfigError(f'Back-off pulling image "{image}": not found', reason="ImagePullBackOff")
