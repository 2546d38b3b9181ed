"""What a router says about itself, fetched and judged."""

from collections.abc import Iterable

from tandem_api.status import RouterStatus


async def fetch_status(url: str, timeout: float = 5.0) -> RouterStatus | None:
    """The status of the router at `url`; None where it does not answer (yet)."""
    import httpx

    try:
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{url}/tandem/v1/status", timeout=timeout)
    except httpx.TransportError:
        return None
    return RouterStatus.model_validate_json(answer.content) if answer.is_success else None


def all_routable(status: RouterStatus, names: Iterable[str]) -> bool:
    """Whether calls can reach every one of these workers."""
    workers = [worker for service in status.services for version in service.versions for worker in version.workers]
    return {worker.name for worker in workers if worker.connected and worker.ready} >= set(names)
