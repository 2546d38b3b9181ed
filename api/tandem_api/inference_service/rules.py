"""What must fit together between the fields of a service: as Python, and as CEL for an API server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tandem_api.inference_service.base import Rule
from tandem_api.inference_service.roles import GPU, merged

if TYPE_CHECKING:
    from tandem_api.inference_service.service import InferenceServiceSpec
    from tandem_api.inference_service.versions import VersionSpec

Location = tuple[str | int, ...]
"""Field names as they are written in a manifest, and indices: ("versions", 1, "weight")."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A rule that a spec breaks."""

    location: Location
    """Within the spec."""
    message: str
    depends: tuple[Location, ...] = ()
    """What else the rule looks at: where that is wrong by itself, the rule says nothing sure."""

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


_SEVERAL: Final = "!has(self.experiment) && self.versions.size() > 1"
_WEIGHED: Final = f"{_SEVERAL} && self.versions.all(v, has(v.weight))"
_IMMUTABLE: Final = "can't be changed: clients call the model by it; make another InferenceService"


def _tensor(role: str) -> str:
    """An expression for the tensor parallelism of a role in version `v`."""
    return (
        f"(has(v.{role}) && has(v.{role}.parallelism) ? v.{role}.parallelism.tensor : "
        f"has(self.{role}) && has(self.{role}.parallelism) ? self.{role}.parallelism.tensor : 1)"
    )


def _gpus(role: str) -> str:
    """An expression for whether a worker of a role in version `v` has a GPU for each rank, or names none."""

    def enough(resources: str) -> str:
        named = f"has({resources}.limits) && '{GPU}' in {resources}.limits"
        return f"(!({named}) || int(string({resources}.limits['{GPU}'])) >= {_tensor(role)})"

    return (
        f"(has(v.{role}) && has(v.{role}.resources) ? {enough(f'v.{role}.resources')} : "
        f"!has(self.{role}) || !has(self.{role}.resources) || {enough(f'self.{role}.resources')})"
    )


CEL: Final = (
    Rule(
        f"!({_SEVERAL}) || self.versions.all(v, has(v.weight))",
        "each of several versions needs a weight, and they must sum to 100",
        at=".versions",
    ),
    Rule(
        f"!({_WEIGHED}) || self.versions.map(v, v.weight).sum() == 100",
        "weights of several versions must sum to 100",
        # Two are listed; a list of any length costs more than an API server allows.
        says="self.versions.size() == 2 ? "
        "'weights are %d and %d: they must sum to 100'.format([self.versions[0].weight, self.versions[1].weight]) : "
        "'weights sum to %d: they must sum to 100'.format([self.versions.map(v, v.weight).sum()])",
        at=".versions",
    ),
    Rule(
        "has(self.experiment) || self.versions.size() > 1 || self.versions.all(v, !has(v.weight) || v.weight == 100)",
        "a single version gets weight 100: remove the weight, or add versions",
        at=".versions",
    ),
    Rule(
        "!has(self.experiment) || self.versions.all(v, !has(v.weight))",
        "weights must not be given beside spec.experiment, which moves the traffic",
        at=".versions",
    ),
    *(
        Rule(
            f"!has(self.experiment) || self.versions.exists(v, v.name == self.experiment.{name})",
            f"{name} must be the name of a version",
            at=f".experiment.{name}",
        )
        for name in ("champion", "challenger")
    ),
    Rule(
        f"self.versions.all(v, !(has(self.prefill) || has(v.prefill)) || "
        f"{_tensor('prefill')} % {_tensor('decode')} == 0 || {_tensor('decode')} % {_tensor('prefill')} == 0)",
        "parallelism.tensor of prefill or decode must be a multiple of the other's, so that KV heads can be dealt out "
        "again",
    ),
    *(
        Rule(
            f"self.versions.all(v, {_gpus(role)})",
            f"parallelism.tensor of {role} must not be more than its limit of {GPU}: each rank needs one",
        )
        for role in ("prefill", "decode")
    ),
    Rule(
        "has(self.model) == has(oldSelf.model) && (!has(self.model) || self.model == oldSelf.model)",
        f"model {_IMMUTABLE}",
    ),
)
"""The same for an API server, and that `model` stays as it is, which only it can know."""


def problems(spec: InferenceServiceSpec) -> Iterator[Problem]:
    """Every broken rule of a spec whose fields are valid by themselves."""
    yield from _experiment(spec) if spec.experiment else _weights(spec)
    for index, version in enumerate(spec.versions):
        yield from _parallelism(spec, version, index)


def _weights(spec: InferenceServiceSpec) -> Iterator[Problem]:
    depends: tuple[Location, ...] = (("experiment",),)
    weights = [version.weight for version in spec.versions]
    if len(weights) == 1:
        if weights[0] not in (None, 100):
            says = f"is {weights[0]}; a single version gets 100: remove it, or add versions"
            yield Problem(("versions", 0, "weight"), says, depends)
        return
    for index, weight in enumerate(weights):
        if weight is None:
            says = "weight is missing: each of several versions needs one, and they sum to 100"
            yield Problem(("versions", index), says, depends)
    given = [weight for weight in weights if weight is not None]
    if len(given) == len(weights) and sum(given) != 100:
        listed = " and ".join([", ".join(map(str, given[:-1])), str(given[-1])])
        yield Problem(("versions",), f"weights are {listed}: they must sum to 100, not {sum(given)}", depends)


def _experiment(spec: InferenceServiceSpec) -> Iterator[Problem]:
    assert spec.experiment is not None
    names = [version.name for version in spec.versions]
    for field, name in (("champion", spec.experiment.champion), ("challenger", spec.experiment.challenger)):
        if name not in names:
            says = f'"{name}" is not a version; versions are {", ".join(names)}'
            yield Problem(("experiment", field), says, (("versions",),))
    for index, version in enumerate(spec.versions):
        if version.weight is not None:
            says = "must not be given beside spec.experiment, which moves the traffic"
            yield Problem(("versions", index, "weight"), says)


def _parallelism(spec: InferenceServiceSpec, version: VersionSpec, index: int) -> Iterator[Problem]:
    depends: tuple[Location, ...] = (("prefill",), ("decode",))
    tensor: dict[str, int] = {}
    for role, common, own in (("prefill", spec.prefill, version.prefill), ("decode", spec.decode, version.decode)):
        if (settings := merged(common, own)) is None:
            continue
        tensor[role] = settings.parallelism.tensor
        # Without GPUs (a CPU, or a rehearsal) ranks are processes.
        if settings.gpus is not None and settings.gpus < settings.parallelism.tensor:
            overridden = own is not None and "parallelism" in own.model_fields_set
            at: Location = ("versions", index, role) if overridden else (role,)
            says = f"is {settings.parallelism.tensor}, but a worker has {settings.gpus} of {GPU}: each rank needs one"
            yield Problem((*at, "parallelism", "tensor"), says, depends)
    if len(tensor) == 2 and max(tensor.values()) % min(tensor.values()):
        says = (
            f"prefill has parallelism.tensor {tensor['prefill']} and decode {tensor['decode']}: one must be a multiple "
            "of the other, so that KV heads can be dealt out again"
        )
        yield Problem(("versions", index), says, depends)
