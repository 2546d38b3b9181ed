"""The engine kind `vllm`: vLLM's engine and serving classes behind the engine contract. vLLM is imported only here.

Importing this package does not import vLLM: its environment has to be prepared first (`environment`).
"""

from tandem_engine.vllm.engine import VllmEngine

__all__ = ["VllmEngine"]
