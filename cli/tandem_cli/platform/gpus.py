"""Deals the machine's GPUs out to workers, as a scheduler would by their limits."""

from collections.abc import Mapping, Sequence

from tandem_cli.platform.errors import PlatformError


def parse_gpus(text: str) -> tuple[str, ...]:
    """The GPUs that `--gpus` names: indices or UUIDs, as CUDA_VISIBLE_DEVICES takes them.

    Raises:
        ValueError: an entry is empty, negative or there twice.
    """
    gpus = tuple(part.strip() for part in text.split(","))
    for gpu in gpus:
        if not gpu or gpu.startswith("-"):
            raise ValueError(f"{gpu!r} is no GPU: give indices or UUIDs, such as 0,1")
        if gpus.count(gpu) > 1:
            raise ValueError(f"GPU {gpu} is named twice")
    return gpus


def deal(gpus: Sequence[str], needs: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
    """Each worker's GPUs, in order; every GPU goes to one worker at most.

    Args:
        gpus: what there is.
        needs: how many each worker asks for, by its name.

    Raises:
        PlatformError: there are not enough.
    """
    wanted = sum(needs.values())
    if wanted > len(gpus):
        asked = ", ".join(f"{name}: {count}" for name, count in needs.items() if count)
        have = f"--gpus names {len(gpus)}" if gpus else "--gpus names none"
        raise PlatformError(
            f"the workers ask for {wanted} GPUs ({asked}), and {have}",
            hint="name enough with --gpus 0,1,..., lower replicas or nvidia.com/gpu in the manifest, "
            "or rehearse without GPUs: --engine virtual",
        )
    left = iter(gpus)
    return {name: tuple(next(left) for _ in range(count)) for name, count in needs.items()}
