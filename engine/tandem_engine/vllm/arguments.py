"""The engine's arguments: what the manifest's `engine.args` say, what Tandem owns, and defaults for the CPU build.

`engine.args` are those of `vllm serve` and go through vLLM's own parser. What Tandem sets itself is refused there, with
the place where it belongs, rather than overridden without a word.
"""

from argparse import Namespace
from pathlib import Path
from typing import Any, Final, NoReturn

from tandem_api.inference_service.arguments import OWNED
from tandem_api.worker import WorkerConfig
from tandem_proto.channels import Tls
from vllm.config import KVTransferConfig
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

from tandem_engine.sources import loadable
from tandem_engine.vllm.settings import TransferSettings

CONNECTORS: Final = {
    "grpc": "tandem_engine.vllm.connector.TandemKVConnector",
    "nixl": "tandem_engine.vllm.nixl.TandemNixlConnector",
}

CPU_DEFAULTS: Final[dict[str, Any]] = {
    "dtype": "float32",  # ten times faster there than bfloat16
    "enforce_eager": True,
    "block_size": 32,  # the CPU's attention wants multiples of it
    "kv_cache_memory_bytes": 2**30,
    "distributed_executor_backend": "uni",
}


class _Parser(FlexibleArgumentParser):
    """argparse ends the process on an error; a worker says what is wrong with its configuration."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"engine.args: {message}")


def parse(config: WorkerConfig, *, model_dir: Path, host: str, tls: Tls | None, cpu: bool) -> Namespace:
    """The arguments as vLLM's `init_app_state` and `AsyncEngineArgs` read them.

    Raises:
        ValueError: `engine.args` has what vLLM does not know, or what is Tandem's to set.
    """
    parser = make_arg_parser(_Parser())
    unset = parser.parse_args([])
    args: Namespace = parser.parse_args(list(config.engine.args))
    # However it is written: the parser takes abbreviations, and the model as a word of its own.
    for flag, instead in {**OWNED, "model-tag": OWNED["--model"]}.items():
        name = flag.lstrip("-").replace("-", "_")
        if getattr(args, name, None) != getattr(unset, name, None):
            raise ValueError(f"engine.args: must not set {flag}, which Tandem sets itself: {instead}")
    if cpu:
        for name, value in CPU_DEFAULTS.items():
            if getattr(args, name) == getattr(unset, name):
                setattr(args, name, value)
        if config.tensor_parallel > 1:
            args.distributed_executor_backend = "mp"
    args.use_tqdm_on_load = False  # a progress bar is no log
    args.model = str(loadable(model_dir))
    args.served_model_name = [config.model]
    args.tensor_parallel_size = config.tensor_parallel
    args.worker_extension_cls = "tandem_engine.vllm.worker.WorkerExtension"
    args.kv_transfer_config = _kv_transfer(config, host, tls, cpu) if config.disaggregated else None
    return args


def _kv_transfer(config: WorkerConfig, host: str, tls: Tls | None, cpu: bool) -> KVTransferConfig:
    transfer = config.kv_transfer
    settings = TransferSettings(
        host=host,
        port=config.ports.kv,
        tls_folder=str(tls.folder) if tls else None,
        lease_ttl=transfer.lease_ttl,
        # Each rank holds its share.
        max_staged_bytes=-(-transfer.max_staged_bytes // config.tensor_parallel),
        max_fetches=transfer.max_fetches,
    )
    module, connector = CONNECTORS[transfer.connector].rsplit(".", 1)
    more = {"kv_buffer_device": "cpu"} if cpu else {}
    return KVTransferConfig(
        kv_connector=connector,
        kv_connector_module_path=module,
        kv_role="kv_producer" if config.role == "prefill" else "kv_consumer",
        kv_load_failure_policy="recompute",
        kv_connector_extra_config=settings.to_extra_config(),
        **more,
    )
