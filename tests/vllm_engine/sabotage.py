"""The gRPC connector with faults that a test switches on and off: it writes the fault's name to a file.

vLLM loads it inside the engine's processes, by its name.
"""

import os
import time
from pathlib import Path

import torch
from tandem_engine.kv.server import KvServer
from tandem_engine.kv.staging import Staging
from tandem_engine.vllm.connector import TandemKVConnector
from tandem_engine.vllm.mover import Mover
from tandem_engine.vllm.planner import Hold

FAULT_FILE = "TANDEM_TEST_FAULT_FILE"
HOLD_SECONDS = 60.0


def fault() -> str:
    return Path(os.environ[FAULT_FILE]).read_text()


def tamper(message: bytes) -> bytes:
    """On the wire, after checksums were taken: "wire" flips bits, "stall" keeps the message back."""
    if fault() == "wire":
        return message[:-1] + bytes([message[-1] ^ 0x40])
    end = time.monotonic() + HOLD_SECONDS
    while fault() == "stall" and time.monotonic() < end:
        time.sleep(0.01)
    return message


class FaultyMover(Mover):
    def take_blocks(self, hold: Hold) -> list[torch.Tensor]:
        """Before checksums are taken: "staging" damages the KV itself."""
        layers = super().take_blocks(hold)
        if fault() == "staging":
            for layer in layers:
                layer.view(torch.float32).mul_(-1)
        if fault() == "full":
            raise RuntimeError("no memory")
        return layers

    def make_server(self, staging: Staging, address: str) -> KvServer:
        return KvServer(staging, address, self._settings.tls, tamper=tamper)


class FaultyConnector(TandemKVConnector):
    mover_type = FaultyMover
