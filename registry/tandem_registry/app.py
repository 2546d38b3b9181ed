"""The registry as an ASGI app."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from fastapi import FastAPI, Response
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp

from tandem_registry import failures
from tandem_registry.access import Access
from tandem_registry.activations import Activations
from tandem_registry.artifacts import Artifacts
from tandem_registry.database import Database
from tandem_registry.keys import KeyStore
from tandem_registry.limiting import BodyLimit
from tandem_registry.metrics import Measured, Metrics
from tandem_registry.models import Models
from tandem_registry.outcomes import Outcomes
from tandem_registry.routes.experiments import experiment_routes
from tandem_registry.routes.keys import key_routes
from tandem_registry.routes.registry import registry_routes
from tandem_registry.routes.repository import repository_routes
from tandem_registry.settings import Settings
from tandem_registry.storage import Storage, StorageFailed
from tandem_registry.sweeping import Sweeper
from tandem_registry.tables import CounterRow
from tandem_registry.uploads import Uploads
from tandem_registry.versions import Versions

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Surroundings:
    """Time and chance."""

    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    new_id: Callable[[], str] = field(default=lambda: secrets.token_hex(16))
    secret: Callable[[], str] = field(default=lambda: secrets.token_hex(32))


def registry_app(settings: Settings, storage: Storage, surroundings: Surroundings) -> ASGIApp:
    """The app, with keys checked before anything else. The database's tables have to be there (`migrating`)."""
    clock = surroundings.clock
    database = Database(settings.database)
    sweeper = Sweeper(database, storage, clock, keep=settings.keep)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep_again_and_again(sweeper, settings.sweep_seconds))
        try:
            yield
        finally:
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)
            database.close()

    app = FastAPI(title="Tandem registry", version="v1", lifespan=lifespan, docs_url=None, redoc_url=None)
    failures.install(app)
    metrics = Metrics()
    models = Models(database, clock)
    uploads = Uploads(
        database,
        storage,
        clock,
        surroundings.new_id,
        max_file_bytes=settings.max_file_bytes,
        keep=settings.keep,
    )
    app.include_router(registry_routes(database, models, Versions(database, clock), Activations(database, clock)))
    app.include_router(repository_routes(storage, uploads, Artifacts(database, clock)))
    app.include_router(key_routes(KeyStore(database, clock, surroundings.secret)))
    app.include_router(experiment_routes(Outcomes(database, clock)))

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", include_in_schema=False)
    def readyz(response: Response) -> dict[str, str]:
        with database.reading() as session:
            session.scalars(select(CounterRow.value)).all()
        return {"status": "ready"}

    @app.get("/metrics", include_in_schema=False)
    def exposition() -> Response:
        return Response(metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return Measured(Access(BodyLimit(app), database, settings.keys, clock), metrics)


async def _sweep_again_and_again(sweeper: Sweeper, pause: float) -> None:
    while True:
        try:
            swept = await run_in_threadpool(sweeper.sweep)
        except (*failures.DATABASE_FAILED, StorageFailed) as error:
            _log.warning("could not sweep: %s", type(error).__name__)
        else:
            if swept.uploads or swept.files or swept.objects:
                _log.info(
                    "swept",
                    extra={"uploads": swept.uploads, "files": swept.files, "objects": swept.objects},
                )
        await asyncio.sleep(pause)
