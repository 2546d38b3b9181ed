"""Asks a container how it is: the four actions of Kubernetes' probes, and the rhythm in which they are asked.

grpc is imported when first asked for: a command line that only shows help should not wait for it.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from http.client import HTTPException

from tandem_cli.runner.http import get
from tandem_cli.runner.template import GrpcAction, HttpAction, Port, Probe, TcpAction

Ask = Callable[[], Awaitable[str]]
"""Asks once and says what is wrong, in a few words; empty where nothing is."""

RunInside = Callable[[Sequence[str]], Awaitable[int]]
"""Runs a command as the container would and returns its exit status."""


async def verdicts(probe: Probe, ask: Ask, eager: float) -> AsyncGenerator[str, None]:
    """Asks for ever, in the probe's rhythm; yields whenever a threshold is met: what is wrong, or empty for success.

    Until the first success it asks in between too, without counting those failures: a container is noticed soon after
    it is ready, and `failureThreshold` times `periodSeconds` is the time that it has. These asks are at least `eager`
    seconds apart, and more the longer it takes: a tenth of the time so far.
    """
    loop = asyncio.get_running_loop()
    await asyncio.sleep(probe.initial_delay_seconds)
    begun = loop.time()
    good = bad = 0
    succeeded = False
    while True:
        tick = loop.time() + probe.period_seconds
        problem = await ask()
        while problem and not succeeded:
            pause = max(eager, (loop.time() - begun) / 10)
            if loop.time() + pause >= tick:
                break
            await asyncio.sleep(pause)
            problem = await ask()
        if problem:
            good, bad = 0, bad + 1
            if bad >= probe.failure_threshold:
                yield problem
        else:
            good, bad, succeeded = good + 1, 0, True
            if good >= probe.success_threshold:
                yield ""
        await asyncio.sleep(tick - loop.time())


async def ask_once(probe: Probe, address: str, ports: Sequence[Port], run_inside: RunInside) -> str:
    """Runs the probe's action once, within its timeout. Returns what is wrong, empty where nothing is."""
    try:
        async with asyncio.timeout(probe.timeout_seconds):
            if probe.grpc is not None:
                return await _ask_grpc(probe.grpc, address, ports)
            if probe.http_get is not None:
                return await _ask_http(probe.http_get, address, ports, probe.timeout_seconds)
            if probe.tcp_socket is not None:
                return await _ask_tcp(probe.tcp_socket, address, ports)
            assert probe.exec is not None
            code = await run_inside(probe.exec.command)
            return f"{probe.exec.command[0]} exited {code}" if code else ""
    except TimeoutError:
        return f"no answer within {probe.timeout_seconds:g} s"


async def _ask_grpc(action: GrpcAction, address: str, ports: Sequence[Port]) -> str:
    import grpc.aio
    from grpc_health.v1 import health_pb2

    target = f"{address}:{_number(action.port, ports)}"
    async with grpc.aio.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            answer = await check(health_pb2.HealthCheckRequest(service=action.service))
        except grpc.aio.AioRpcError as error:
            return f"{target} {action.service}: {error.code().name}"
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return ""
    return f"{target} {action.service}: {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}"


async def _ask_http(action: HttpAction, address: str, ports: Sequence[Port], timeout: float) -> str:
    target = f"{action.host or address}:{_number(action.port, ports)}"
    headers = {header.name: header.value for header in action.http_headers}
    tls = action.scheme == "HTTPS"
    try:
        status, _ = await get(target, action.path, timeout=timeout, headers=headers, tls=tls)
    except (OSError, HTTPException) as error:
        return f"{target}{action.path}: {type(error).__name__}"
    return "" if 200 <= status < 400 else f"{target}{action.path}: status {status}"


async def _ask_tcp(action: TcpAction, address: str, ports: Sequence[Port]) -> str:
    host, port = action.host or address, _number(action.port, ports)
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        return f"{host}:{port}: {error.strerror or error}"
    writer.close()
    return ""


def _number(port: int | str, ports: Sequence[Port]) -> int:
    """A port by number, or by the name that the container gives it. Raises `KeyError` for an unknown name."""
    if isinstance(port, int):
        return port
    return {named.name: named.container_port for named in ports}[port]
