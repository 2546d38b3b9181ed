"""The registry as a process: uvicorn, and an orderly end on SIGTERM."""

import asyncio
import logging
import socket
from types import FrameType

import uvicorn

from tandem_registry.app import Surroundings, registry_app
from tandem_registry.database import Database
from tandem_registry.migrating import check_migrated, migrate
from tandem_registry.settings import Settings
from tandem_registry.storage import Storage

CLOSE_SECONDS = 20
"""For requests to end after SIGTERM; an upload that is cut then is carried on at another replica."""

_log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """uvicorn, whose exit status after an orderly end is 0. A second signal ends it at once."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


def serve(settings: Settings, storage: Storage, *, migrates: bool) -> None:
    """Serves until SIGTERM or SIGINT.

    Raises:
        NotMigrated: the database is not ready, and `migrates` is false.
    """
    database = Database(settings.database)
    try:
        if migrates:
            migrate(database)
        check_migrated(database)
    finally:
        database.close()
    with socket.create_server((settings.host, settings.port)) as listener:
        host, port = listener.getsockname()[:2]
        config = uvicorn.Config(
            registry_app(settings, storage, Surroundings()),
            http="httptools",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=CLOSE_SECONDS,
        )
        if not settings.keys.required:
            _log.warning("there is no authentication: whoever reaches this address may do everything")
        _log.info("listening", extra={"url": f"http://{host}:{port}"})
        asyncio.run(_Server(config).serve(sockets=[listener]))
