"""Durations and sizes as Kubernetes writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic_core import PydanticCustomError
from tandem_api.inference_service import EngineSpec, KvTransferSpec, RoutingSpec
from tandem_api.inference_service.quantities import format_duration, parse_duration, parse_quantity
from tandem_api.worker import WorkerConfig


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30.0),
        ("10m", 600.0),
        ("1h30m", 5400.0),
        ("500ms", 0.5),
        ("100us", 0.0001),
        ("1.5h", 5400.0),
        ("0s", 0.0),
    ],
)
def test_a_duration_is_read_as_go_does(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "-1s", "1d", "1 s", "s", "1e3s", "\N{ARABIC-INDIC DIGIT ONE}s", "1s\n"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(PydanticCustomError, match="1h30m"):
        parse_duration(text)


@given(st.floats(min_value=0, max_value=1e12, allow_nan=False))
def test_a_duration_that_is_written_reads_back_exactly(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "number"), [("4Gi", 4 * 2**30), ("10G", 10**10), ("500m", 0.5), ("2", 2), ("1.5Ki", 1536)]
)
def test_a_quantity_is_read_as_kubernetes_does(text: str, number: float) -> None:
    assert parse_quantity(text) == number


@pytest.mark.parametrize("text", ["", "Gi", "4GB", "-1", "4 Gi", "0x10"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(PydanticCustomError, match="24Gi"):
        parse_quantity(text)


def test_sizes_are_bytes_and_durations_are_seconds_in_python() -> None:
    spec = KvTransferSpec.model_validate({"leaseTtl": "2m", "maxStagedBytes": "1Gi"})
    assert (spec.lease_ttl, spec.max_staged_bytes) == (120.0, 2**30)


def test_files_between_programs_may_hold_plain_numbers() -> None:
    assert RoutingSpec.model_validate({"requestTimeout": 5, "queue": {"timeout": 0.5}}).queue.timeout == 0.5


def test_a_time_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ValidationError):
        RoutingSpec.model_validate({"requestTimeout": "0s"})


@given(st.floats(min_value=1e-9, max_value=1e9), st.integers(1, 2**50), st.booleans())
def test_a_workers_configuration_survives_its_file(ttl: float, size: int, by_alias: bool) -> None:
    config = WorkerConfig(
        role="prefill",
        service="default/llama",
        model="llama",
        version="v1",
        revision="abc",
        engine=EngineSpec(),
        kv_transfer=KvTransferSpec(lease_ttl=ttl, max_staged_bytes=size),
    )
    assert WorkerConfig.model_validate_json(config.model_dump_json(by_alias=by_alias)) == config
