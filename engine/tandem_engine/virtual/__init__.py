"""The virtual engine: a rehearsal of serving, without a GPU and without a model."""

from tandem_engine.virtual.engine import VirtualEngine

__all__ = ["VirtualEngine"]
