"""Durations, sizes and shares as Kubernetes writes them: "10m", "4Gi", "25%".

In Python a duration is a float of seconds and a size an int of bytes. Files that programs write for programs may hold
plain numbers in their place; a manifest may not, since an API server would refuse it (`MANIFEST` in the validation
context tells the two apart).
"""

import re
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, PlainSerializer, ValidationInfo, WithJsonSchema

from tandem_api.inference_service.base import Matches, invalid

MANIFEST: Final = "manifest"
"""Key of the validation context that is true while a manifest is read."""

_DURATION: Final = r"([0-9]+(\.[0-9]+)?(us|ms|s|m|h))+"
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(us|ms|s|m|h)")
_UNITS: Final = {
    "us": Decimal("0.000001"),
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
}

_QUANTITY: Final = r"([0-9]+(\.[0-9]+)?)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?"
_SCALES: Final = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", 1)},
    **{unit: Decimal(1024) ** power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)},
}


def parse_duration(text: str) -> float:
    """Seconds of a duration as Go and Kubernetes write it: "500ms", "1h30m".

    Raises:
        PydanticCustomError: it is not one.
    """
    if re.fullmatch(_DURATION, text) is None:
        raise invalid('must be a duration with a unit (us, ms, s, m, h), such as "30s" or "1h30m"')
    return float(sum(Decimal(number) * _UNITS[unit] for number, unit in _PART.findall(text)))


def format_duration(seconds: float) -> str:
    """The duration that `parse_duration` reads back as the very same number of seconds."""
    return f"{Decimal(repr(seconds)):f}".removesuffix(".0") + "s"


def parse_quantity(text: str) -> Decimal:
    """The number of a Kubernetes quantity: "4Gi" is 4294967296, "500m" is 0.5.

    Raises:
        PydanticCustomError: it is not one.
    """
    if (match := re.fullmatch(_QUANTITY, text)) is None:
        raise invalid('must be a quantity, such as 2, "500m", "24Gi" or "10G"')
    number, unit = match[1], match[3]
    return Decimal(number) * _SCALES[unit or ""]


def _duration(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, str):
        return parse_duration(value)
    if (info.context or {}).get(MANIFEST):
        raise invalid('must be a duration as text with a unit, such as "30s" or "1h30m"')
    return value


def _size(value: Any) -> Any:
    if isinstance(value, str):
        return int(parse_quantity(value))
    return value


def _quantity(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise invalid('must be a whole number or a quantity as text, such as "500m" or "24Gi"')
    parse_quantity(value)
    return value


def _count_or_percent(value: Any) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if not whole and not (isinstance(value, str) and re.fullmatch("[0-9]+%", value)):
        raise invalid('must be a number of pods, such as 1, or a share of the replicas, such as "25%"')
    return value


_DURATION_SCHEMA: Final = {"type": "string", "pattern": f"^{_DURATION}$", "maxLength": 32}
_TO_TEXT: Final = PlainSerializer(format_duration, return_type=str, when_used="json")

Duration = Annotated[float, Field(ge=0), BeforeValidator(_duration), _TO_TEXT, WithJsonSchema(_DURATION_SCHEMA)]
"""Seconds."""

PositiveDuration = Annotated[
    float,
    Field(gt=0),
    BeforeValidator(_duration),
    _TO_TEXT,
    WithJsonSchema(
        {
            **_DURATION_SCHEMA,
            "x-kubernetes-validations": [
                {"rule": "duration(self) > duration('0s')", "message": "must be longer than 0s"}
            ],
        }
    ),
]
"""Seconds, more than none."""

ByteSize = Annotated[
    int,
    BeforeValidator(_size),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "pattern": f"^{_QUANTITY}$", "maxLength": 32}),
]
"""Bytes."""

Quantity = Annotated[
    str,
    BeforeValidator(_quantity),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "pattern": f"^{_QUANTITY}$", "maxLength": 32}),
]
"""A resource's amount, kept as it was written."""

CountOrPercent = Annotated[
    int | str,
    BeforeValidator(_count_or_percent),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "pattern": "^[0-9]+%?$", "maxLength": 8}),
]
"""A number of pods, or a share of the replicas."""

Percent = Annotated[
    str,
    Field(max_length=16),
    Matches(r"[0-9]+(\.[0-9]+)?%", 'must be a percentage as text, such as "10%" or "0.5%"'),
]
"""A share, kept as it was written."""
