"""Models of what people declare."""

from collections.abc import Iterable
from typing import Any, Final

from tandem_api.replies import Finish, Usage
from tandem_api.virtual_models import VirtualModelSpec

from tandem_virtual.models import (
    Ending,
    Exhaustion,
    Failure,
    Function,
    ProxyModel,
    SequenceModel,
    Stage,
    StaticModel,
    Step,
    ToolModel,
    VirtualModel,
)
from tandem_virtual.registry import Protocol, Registries
from tandem_virtual.transforms import TRANSFORMS

_FINISHES: Final = {
    "end_turn": Finish.STOP,
    "max_tokens": Finish.LENGTH,
    "tool_use": Finish.TOOL_CALLS,
    "refusal": Finish.CONTENT_FILTER,
} | {finish.value: finish for finish in Finish}


def register_declared(registries: Registries, specs: Iterable[VirtualModelSpec]) -> None:
    """Adds declared models, each to the registries of its protocols.

    Raises:
        AlreadyRegistered: an id is taken.
        ProxyLoop: proxies forward in a circle.
    """
    for spec in specs:
        model = build(spec)
        for protocol in spec.protocols:
            registries.of(Protocol(protocol)).register(model.twin())


def build(spec: VirtualModelSpec) -> VirtualModel:
    """The model that is declared."""
    common: dict[str, Any] = {"id": spec.id, "name": spec.name, "delay": spec.delay, "role": spec.role}
    if spec.description is not None:
        common["description"] = spec.description
    if spec.usage is not None:
        common["usage"] = Usage(**spec.usage.model_dump())
    finish: dict[str, Any] = {} if spec.finish_reason is None else {"finish": _FINISHES[spec.finish_reason]}
    match spec.type:
        case "static":
            return StaticModel(
                content="".join(spec.stream_chunks) if spec.content is None else spec.content,
                stream_chunks=spec.stream_chunks,
                thinking=spec.thinking,
                failure=_failure(spec),
                **finish,
                **common,
            )
        case "tool":
            calls = tuple(Function(call.name, call.arguments) for call in spec.tool_call)
            return ToolModel(calls=calls, content=spec.content, thinking=spec.thinking, **finish, **common)
        case "proxy":
            transforms = tuple(TRANSFORMS[name] for name in spec.transformer)
            return ProxyModel(transforms=transforms, delegate=spec.delegate_model, **common)
        case "sequence":
            steps = () if spec.sequence is None else spec.sequence.steps
            return SequenceModel(
                content=spec.content or "",
                steps=tuple(Step(**step.model_dump()) for step in steps),
                exhaustion=Exhaustion.LOOP if spec.sequence is None else Exhaustion(spec.sequence.when_used_up),
                **common,
            )


def _failure(spec: VirtualModelSpec) -> Failure | None:
    if spec.failure is None:
        return None
    fields = spec.failure.model_dump()
    return Failure(**fields | {"stage": Stage(fields["stage"]), "ending": Ending(fields["ending"])})
