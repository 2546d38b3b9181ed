"""What must fit together between the fields of a service: as Python, and as CEL for an API server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tandem_api.inference_service.roles import merged

if TYPE_CHECKING:
    from tandem_api.inference_service.service import InferenceServiceSpec

Location = tuple[str | int, ...]
"""Field names as they are written in a manifest, and indices: ("versions", 1, "weight")."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A rule that a spec breaks."""

    location: Location
    """Within the spec."""
    message: str

    @property
    def where(self) -> str:
        """The location as people write it: spec.versions[1].weight."""
        return path_text(("spec", *self.location))


def path_text(location: Location) -> str:
    """`("spec", "versions", 1, "weight")` as `spec.versions[1].weight`; a key with dots stands in brackets."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif "." in part or "/" in part:
            text += f'["{part}"]'
        else:
            text += f".{part}" if text else part
    return text


CEL: Final[tuple[tuple[str, str], ...]] = ()


def problems(spec: InferenceServiceSpec) -> Iterator[Problem]:
    """Every broken rule of a spec whose fields are valid by themselves."""
    yield from _experiment(spec) if spec.experiment else _weights(spec)
    yield from _parallelism(spec)


def _weights(spec: InferenceServiceSpec) -> Iterator[Problem]:
    weights = [version.weight for version in spec.versions]
    if len(weights) == 1:
        if weights[0] not in (None, 100):
            yield Problem(
                ("versions", 0, "weight"), f"is {weights[0]}; a single version gets 100: remove it, or add versions"
            )
        return
    for index, weight in enumerate(weights):
        if weight is None:
            yield Problem(
                ("versions", index), "weight is missing: each of several versions needs one, and they sum to 100"
            )
    given = [weight for weight in weights if weight is not None]
    if len(given) == len(weights) and sum(given) != 100:
        listed = " and ".join([", ".join(map(str, given[:-1])), str(given[-1])])
        yield Problem(("versions",), f"weights are {listed}: they must sum to 100, not {sum(given)}")


def _experiment(spec: InferenceServiceSpec) -> Iterator[Problem]:
    assert spec.experiment is not None
    names = [version.name for version in spec.versions]
    for field, name in (("champion", spec.experiment.champion), ("challenger", spec.experiment.challenger)):
        if name not in names:
            yield Problem(("experiment", field), f'"{name}" is not a version; versions are {", ".join(names)}')
    for index, version in enumerate(spec.versions):
        if version.weight is not None:
            yield Problem(
                ("versions", index, "weight"), "must not be given beside spec.experiment, which moves the traffic"
            )


def _parallelism(spec: InferenceServiceSpec) -> Iterator[Problem]:
    for index, version in enumerate(spec.versions):
        tensor: dict[str, int] = {}
        for role, common, own in (
            ("prefill", spec.prefill, version.prefill),
            ("decode", spec.decode, version.decode),
        ):
            if (settings := merged(common, own)) is None:
                continue
            tensor[role] = settings.parallelism.tensor
            # Without GPUs (a CPU, or a rehearsal) ranks are processes.
            if settings.gpus is not None and settings.gpus < settings.parallelism.tensor:
                at: Location = ("versions", index, role) if own else (role,)
                yield Problem(
                    (*at, "parallelism", "tensor") if not own or "parallelism" in own.model_fields_set else at,
                    f"parallelism.tensor is {settings.parallelism.tensor}, but a worker has {settings.gpus} of "
                    f"nvidia.com/gpu: each rank needs one",
                )
        if len(tensor) == 2 and max(tensor.values()) % min(tensor.values()):
            yield Problem(
                ("versions", index),
                f"prefill has parallelism.tensor {tensor['prefill']} and decode {tensor['decode']}: one must be a "
                "multiple of the other, so that KV heads can be dealt out again",
            )
