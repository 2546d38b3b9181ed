"""Makes the engine that a worker's configuration names.

Kinds are imported only when asked for: the virtual engine needs no torch, and vLLM takes ten seconds to import.
"""

import logging
from pathlib import Path

from tandem_api.worker import WorkerConfig
from tandem_proto.channels import Tls

from tandem_engine.engine import Engine

log = logging.getLogger(__name__)


def build_engine(config: WorkerConfig, model_dir: Path | None, name: str, host: str, tls: Tls | None) -> Engine:
    """Makes an engine, which has not been entered.

    `model_dir` holds the weights; `host` is the address at which it serves KV, and `name` who it says it is.

    Raises:
        ValueError: the configuration can't be met; the text says why.
    """
    match config.engine.type:
        case "virtual":
            from tandem_engine.virtual import VirtualEngine

            return VirtualEngine.from_config(config, name=name, host=host, tls=tls)
        case "upstream":
            from tandem_engine.upstream import UpstreamEngine

            return UpstreamEngine.from_config(config)
        case "virtualModel":
            from tandem_engine.virtual_model import VirtualModelEngine

            return VirtualModelEngine.from_config(config)
        case "vllm":
            log.info("importing vLLM")
            from tandem_engine.vllm import VllmEngine

            if model_dir is None:
                raise ValueError("the vllm engine needs the model's weights: give --model-dir")
            return VllmEngine.from_config(config, model_dir=model_dir, name=name, host=host, tls=tls)
