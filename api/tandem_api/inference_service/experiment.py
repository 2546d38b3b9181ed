"""Two versions compared by what they do: `experiment`."""

import re
from typing import Annotated, Final, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from tandem_api.inference_service.base import DnsLabel, Matches, Spec, UniqueBy, cel, count, invalid
from tandem_api.inference_service.quantities import Duration, Percent, PositiveDuration

Share = Annotated[int, Field(ge=1, le=99)]

QUANTILE: Final = 0.95
"""Of latencies, where a criterion names neither quantile nor threshold."""

_RISING = "weights of steps must rise from step to step"
_ONE_SPLIT = "must have exactly one of steps, weight and shadow"
_DECIDES = "must have `decide`, unless it is a shadow: what else would tell the versions apart?"
_DIFFERENT = "champion and challenger must be different versions"
_ONE_MARGIN = "must have exactly one of absolute and relative"
_LATENCY_ONLY = "quantile and threshold are of ttft and tpot alone, and not both at once"
_TWICE = "must name each metric once for each quantile or threshold"

_SHARE: Final = r"[0-9]{1,2}(\.[0-9]+)?%|0(\.[0-9]+)?"
_TIME: Final = r"[0-9]+(\.[0-9]+)?(ms|s)"
_TIME_OR_SHARE: Final = rf"{_TIME}|[0-9]{{1,2}}(\.[0-9]+)?%"
_COUNT: Final = r"[0-9]+(\.[0-9]+)?"
_SHARE_ONLY = 'tolerate.absolute of errorRate and score is a share below 1, such as "0.5%" or "0.005"'
_TOKENS_ONLY = 'tolerate.absolute of tokens is a number of them, such as "12"'
_TIME_ONLY = 'tolerate.absolute of a quantile of ttft and tpot is a time, such as "50ms"'
_EITHER = 'tolerate.absolute beside a threshold is a time, such as "50ms", or a share of the requests, such as "0.5%"'
_PART_ONLY = "tolerate.relative of a score is less than 100%"

_ABSOLUTE: Final = (
    ("self.metric in ['errorRate', 'score']", _SHARE, _SHARE_ONLY),
    ("self.metric == 'tokens'", _COUNT, _TOKENS_ONLY),
    ("self.metric in ['ttft', 'tpot'] && !has(self.threshold)", _TIME, _TIME_ONLY),
    ("self.metric in ['ttft', 'tpot'] && has(self.threshold)", _TIME_OR_SHARE, _EITHER),
)
"""Of which criteria, what their absolute margin looks like, and that in words."""
_PART: Final = r"[0-9]{1,2}(\.[0-9]+)?%"


def _matches(field: str, where: str, pattern: str) -> str:
    """An expression for a margin of a certain shape."""
    given = f"has(self.tolerate) && has(self.tolerate.{field})"
    return f"!({given} && {where}) || self.tolerate.{field}.matches(r'^({pattern})$')"


class Step(Spec):
    """A share of the traffic, and how long to stay with it."""

    weight: Share
    """Percent of the traffic that the challenger gets."""
    min_requests: int = Field(1, ge=1)
    """Requests of the challenger before the next step."""
    min_duration: Duration = 0.0
    """Time before the next step."""


class Shadow(Spec):
    """Copies of requests, whose answers nobody sees."""

    percent: int = Field(ge=1, le=100)
    """Share of the champion's requests that is copied."""
    max_in_flight: int = Field(8, ge=1)
    """Copies that are under way at once, for each router; beyond it none are made."""


class Tolerance(Spec):
    """By how much the challenger may be worse."""

    model_config = ConfigDict(json_schema_extra=cel(("has(self.absolute) != has(self.relative)", _ONE_MARGIN)))

    absolute: (
        Annotated[
            str,
            Field(max_length=32),
            Matches(r"[0-9]+(\.[0-9]+)?(%|ms|s)?", 'must be such as "0.5%", "50ms" or "12"'),
        ]
        | None
    ) = None
    """In the metric's own unit: `"0.5%"` of the requests, `"50ms"`, `"12"` tokens."""
    relative: Percent | None = None
    """In percent of the champion's value: `"10%"`."""

    @model_validator(mode="after")
    def _one_margin(self) -> Self:
        if (self.absolute is None) == (self.relative is None):
            raise invalid(_ONE_MARGIN)
        return self


class Criterion(Spec):
    """A metric by which the versions are told apart."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                "(!has(self.quantile) && !has(self.threshold)) || "
                "(self.metric in ['ttft', 'tpot'] && !(has(self.quantile) && has(self.threshold)))",
                _LATENCY_ONLY,
            ),
            *((_matches("absolute", where, pattern), must) for where, pattern, must in _ABSOLUTE),
            (_matches("relative", "self.metric == 'score'", _PART), _PART_ONLY),
        )
    )

    metric: Literal["errorRate", "ttft", "tpot", "tokens", "score"]
    """tokens: of an answer; score: what clients post back."""
    quantile: float | None = Field(None, gt=0, lt=1)
    """Of ttft and tpot: which quantile of the champion's is compared; 0.95 where no threshold is given."""
    threshold: PositiveDuration | None = None
    """Of ttft and tpot, in place of quantile: slower requests count as bad."""
    tolerate: Tolerance = Tolerance(relative="0%")
    """Margin within which the challenger counts as no worse; default none."""

    @model_validator(mode="after")
    def _of_latency(self) -> Self:
        both = self.quantile is not None and self.threshold is not None
        either = self.quantile is not None or self.threshold is not None
        if both or (either and self.metric not in ("ttft", "tpot")):
            raise invalid(_LATENCY_ONLY)
        return self

    @model_validator(mode="after")
    def _unit(self) -> Self:
        absolute, relative = self.tolerate.absolute, self.tolerate.relative
        pattern, must = self._absolute
        if absolute is not None and re.fullmatch(pattern, absolute) is None:
            raise invalid(must)
        if self.metric == "score" and relative is not None and re.fullmatch(_PART, relative) is None:
            raise invalid(_PART_ONLY)
        return self

    @property
    def _absolute(self) -> tuple[str, str]:
        """What its absolute margin looks like, and that in words."""
        match self.metric:
            case "errorRate" | "score":
                return _SHARE, _SHARE_ONLY
            case "tokens":
                return _COUNT, _TOKENS_ONLY
            case _ if self.threshold is None:
                return _TIME, _TIME_ONLY
            case _:
                return _TIME_OR_SHARE, _EITHER


class ExperimentSpec(Spec):
    """A challenger beside the champion, and what decides between them."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (f"{count('steps', 'weight', 'shadow')} == 1", _ONE_SPLIT),
            ("!has(self.steps) || self.steps.map(s, s.weight).isSorted()", _RISING),
            ("has(self.shadow) || (has(self.decide) && self.decide.size() > 0)", _DECIDES),
            ("self.champion != self.challenger", _DIFFERENT),
            (
                "!has(self.decide) || self.decide.all(a, self.decide.exists_one(b, a.metric == b.metric && "
                "(has(a.quantile) ? a.quantile : 0.95) == (has(b.quantile) ? b.quantile : 0.95) && "
                "(has(a.threshold) ? a.threshold : '') == (has(b.threshold) ? b.threshold : '')))",
                _TWICE,
            ),
        )
    )

    champion: DnsLabel
    """The version that serves until another has shown itself no worse."""
    challenger: DnsLabel
    """The version to try."""
    steps: Annotated[
        tuple[Step, ...],
        Field(max_length=32),
        UniqueBy("weight"),
    ] = ()
    """Traffic moves step by step."""
    weight: Share | None = None
    """In place of steps: a fixed share for the challenger, in percent."""
    shadow: Shadow | None = None
    """In place of both: the challenger gets copies, and its answers go nowhere."""
    alpha: float = Field(0.05, gt=0, lt=1)
    """The most probable that a wrong decision may be: to roll back one within all margins, to promote one beyond."""
    decide: Annotated[tuple[Criterion, ...], Field(max_length=16)] = ()
    """What decides. Harm: one metric shown worse by more than its margin. Benefit: every metric shown within it."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if bool(self.steps) + (self.weight is not None) + (self.shadow is not None) != 1:
            raise invalid(_ONE_SPLIT)
        weights = [step.weight for step in self.steps]
        if weights != sorted(set(weights)):
            raise invalid(f"{_RISING}: they are {', '.join(map(str, weights))}")
        if self.shadow is None and not self.decide:
            raise invalid(_DECIDES)
        if self.champion == self.challenger:
            raise invalid(_DIFFERENT)
        asked = [(one.metric, one.quantile or QUANTILE, one.threshold) for one in self.decide]
        if len(set(asked)) < len(asked):
            raise invalid(_TWICE)
        return self
