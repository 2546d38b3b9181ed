"""What both workers share: everything between the wire and the engine.

From the outside in: `running` (a process's life: ports, signals, drain), `servicer` (the gRPC service), `session` (one
router's stream), `call` (one call), with `outbox` and `sending` for what goes back. `state` is what all of them see.
"""

from tandem_engine.worker.running import BoundPorts, Orders, run_worker
from tandem_engine.worker.state import Role

__all__ = ["BoundPorts", "Orders", "Role", "run_worker"]
