"""An engine that says what it is told: a virtual model of `tandem_virtual`, in the worker's own process."""

from tandem_engine.virtual_model.engine import VirtualModelEngine

__all__ = ["VirtualModelEngine"]
