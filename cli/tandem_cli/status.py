"""What the platform's router says about itself, fetched and judged."""

from collections.abc import Iterable
from http.client import HTTPException

from tandem_api.status import RouterStatus

from tandem_cli.keys import bearer
from tandem_cli.runner.http import get


async def fetch_status(url: str, key: str = "", timeout: float = 5.0) -> RouterStatus | None:
    """The status of the router at `url` (http://host:port), which is shown `key`; None where it does not answer yet."""
    try:
        status, body = await get(url.removeprefix("http://"), "/tandem/v1/status", timeout=timeout, headers=bearer(key))
    except (OSError, HTTPException):
        return None
    return RouterStatus.model_validate_json(body) if status == 200 else None


def all_routable(status: RouterStatus, names: Iterable[str]) -> bool:
    """Whether calls can reach every one of these workers."""
    workers = [worker for service in status.services for version in service.versions for worker in version.workers]
    return {worker.name for worker in workers if worker.connected and worker.ready} >= set(names)
