"""One GET to a program of this machine, on the standard library alone.

While a platform comes up, its processor time is what everybody waits for, and a client library costs a quarter of a
second of it just to be imported.
"""

import asyncio
import ssl
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPSConnection


async def get(
    address: str, path: str, *, timeout: float, headers: Mapping[str, str] | None = None, tls: bool = False
) -> tuple[int, bytes]:
    """Status and body. With `tls` no certificate is checked, as a kubelet's probes do not.

    Args:
        address: host:port.
        path: with its query.
        timeout: seconds that each step of it may take.
        headers: of the request.
        tls: speak HTTPS.

    Raises:
        OSError: no connection, or it broke or timed out.
        HTTPException: the answer is no HTTP.
    """
    return await asyncio.to_thread(_get, address, path, timeout, headers or {}, tls)


def _get(address: str, path: str, timeout: float, headers: Mapping[str, str], tls: bool) -> tuple[int, bytes]:
    if tls:
        unchecked = ssl.create_default_context()
        unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
        connection: HTTPConnection = HTTPSConnection(address, timeout=timeout, context=unchecked)
    else:
        connection = HTTPConnection(address, timeout=timeout)
    try:
        connection.request("GET", path, headers=dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
