"""What the operator knows of routers that it asks."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import httpx
import pytest
from aiohttp import web
from tandem_api.experiments import ExperimentReport
from tandem_api.status import RouterStatus, ServiceStatus
from tandem_operator.metrics import Metrics
from tandem_operator.routers import REMEMBERED_SECONDS, RouterPoller
from tandem_operator.settings import RouterSettings

KEY = ("ns", "llama")


class Installation:
    """One router, which may be started again, or gone."""

    def __init__(self) -> None:
        self.incarnation = "router-0 a"
        self.there = True
        self.refuses = 0
        """So many of the next questions."""
        self.answers = 0
        self.news = 0
        """What all services were looked at for."""
        self.now = 1000.0

    async def list(self, *_: object) -> dict[str, Any]:
        conditions = [{"type": "Ready", "status": "True"}]
        status = {"podIP": "127.0.0.1", "conditions": conditions}
        return {"items": [{"metadata": {"name": "router-0"}, "status": status}] if self.there else []}

    def concerned(self, keys: Iterable[tuple[str, str]] | None) -> None:
        self.news += keys is None

    async def answer(self, request: web.Request) -> web.Response:
        if self.refuses:
            self.refuses -= 1
            return web.Response(status=503)
        self.answers += 1
        report = ExperimentReport(id="e1", incarnation=self.incarnation)
        service = ServiceStatus(name="llama", namespace="ns", model="m", queued=0, versions=(), experiments=(report,))
        status = RouterStatus(router="router-0", release="1", ready=True, services=(service,))
        return web.Response(body=status.model_dump_json(by_alias=True), content_type="application/json")


@pytest.fixture
async def polled() -> AsyncIterator[tuple[Installation, RouterPoller]]:
    installation = Installation()
    app = web.Application()
    app.router.add_get("/tandem/v1/status", installation.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    settings = RouterSettings(port=runner.addresses[0][1])
    async with httpx.AsyncClient(trust_env=False, timeout=None) as http:
        poller = RouterPoller(installation, http, settings, Metrics(), installation.concerned, lambda: installation.now)
        poller.awaited(KEY, waits=True)
        task = asyncio.create_task(poller.run())
        yield installation, poller
        task.cancel()
        await runner.cleanup()


async def until(poller: RouterPoller, *incarnations: str) -> None:
    async with asyncio.timeout(60):
        while {one.incarnation for one in poller.reports(KEY)} != set(incarnations):
            await asyncio.sleep(0.01)


async def test_what_a_router_counted_before_it_started_again_is_known_for_a_while(
    polled: tuple[Installation, RouterPoller],
) -> None:
    installation, poller = polled
    await until(poller, "router-0 a")
    installation.incarnation = "router-0 b"
    await until(poller, "router-0 a", "router-0 b")
    installation.now += REMEMBERED_SECONDS
    await until(poller, "router-0 b")


async def test_what_a_router_counted_that_is_gone_is_known_for_a_while(
    polled: tuple[Installation, RouterPoller],
) -> None:
    installation, poller = polled
    await until(poller, "router-0 a")
    installation.there = False
    async with asyncio.timeout(60):
        while poller.views():
            await asyncio.sleep(0.01)
    await until(poller, "router-0 a")


async def test_one_question_without_an_answer_is_no_news_and_two_in_a_row_are(
    polled: tuple[Installation, RouterPoller],
) -> None:
    installation, poller = polled
    await until(poller, "router-0 a")
    before, installation.refuses, goal = installation.news, 1, installation.answers + 2
    async with asyncio.timeout(60):
        while installation.answers < goal:  # the second question comes after the first answer has been taken in
            await asyncio.sleep(0.01)
        assert (installation.refuses, installation.news) == (0, before)
        installation.refuses = 2
        while installation.news < before + 2:  # it fell silent, and answers again
            await asyncio.sleep(0.01)
    assert poller.views()[0].answered


async def test_services_do_not_get_each_others_reports(polled: tuple[Installation, RouterPoller]) -> None:
    _, poller = polled
    await until(poller, "router-0 a")
    assert poller.reports(("ns", "other")) == ()
