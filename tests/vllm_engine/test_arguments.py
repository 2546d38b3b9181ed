"""`engine.args` go through vLLM's own parser; what Tandem owns stays Tandem's. No engine runs here."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from tandem_engine.vllm import arguments, environment
from tandem_engine.vllm.settings import TransferSettings

from tests.vllm_engine.engines import config

pytestmark = pytest.mark.vllm


def parsed(*args: str, cpu: bool = True, **changes: Any) -> Namespace:
    given = config("prefill", engine={"type": "vllm", "args": args}, **changes)
    return arguments.parse(given, model_dir=Path("/models/m"), host="10.0.0.1", tls=None, cpu=cpu)


def test_arguments_are_those_of_vllms_command_line() -> None:
    args = parsed("--max-model-len=4k", "--enable-prefix-caching", "--tool-call-parser", "hermes")
    assert (args.max_model_len, args.enable_prefix_caching, args.tool_call_parser) == (4000, True, "hermes")
    assert (args.model, args.served_model_name) == ("/models/m", ["tiny"])


@pytest.mark.parametrize("arg", ["some/model", "--served-model=x", "--tensor-parallel=2", "--worker-ext=x.Y"])
def test_what_tandem_sets_itself_is_refused_however_it_is_written(arg: str) -> None:
    with pytest.raises(ValueError, match=r"engine\.args: must not set \S+, which Tandem sets itself: \S+"):
        parsed(arg)


def test_an_argument_that_vllm_does_not_know_is_an_error_not_an_exit() -> None:
    with pytest.raises(ValueError, match=r"engine\.args: .*--no-such-thing"):
        parsed("--no-such-thing=1")


def test_the_cpu_build_gets_defaults_that_a_person_may_change() -> None:
    args = parsed("--block-size=64")
    assert (args.dtype, args.enforce_eager, args.block_size) == ("float32", True, 64)
    gpu = parsed(cpu=False)
    assert (gpu.dtype, gpu.enforce_eager, gpu.block_size, gpu.kv_cache_memory_bytes) == ("auto", False, None, None)


def test_a_connector_is_loaded_for_a_disaggregated_version_only() -> None:
    assert parsed(disaggregated=False).kv_transfer_config is None
    transfer = parsed(tensor_parallel=2).kv_transfer_config
    assert (transfer.kv_connector, transfer.kv_role) == ("TandemKVConnector", "kv_producer")
    assert transfer.kv_load_failure_policy == "recompute"


def test_each_rank_may_stage_its_share() -> None:
    args = parsed(tensor_parallel=2, kv_transfer={"max_staged_bytes": 101})
    vllm_config = Namespace(kv_transfer_config=args.kv_transfer_config)
    settings = TransferSettings.of(vllm_config)
    assert (settings.max_staged_bytes, settings.host) == (51, "10.0.0.1")


def test_what_a_person_has_set_in_the_environment_stays() -> None:
    environ = {"OMP_NUM_THREADS": "4", "VLLM_CPU_KVCACHE_SPACE": "40"}
    environment.prepare(1, "127.0.0.1", environ)
    assert environ["OMP_NUM_THREADS"] == "4"
    assert environ["VLLM_WORKER_MULTIPROC_METHOD"] == "spawn"
    assert "VLLM_CPU_KVCACHE_SPACE" not in environ
