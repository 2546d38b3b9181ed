"""`external.metrics.k8s.io/v1beta1`, as an API server asks an aggregated one for it.

Only the API server gets in: it shows the client certificate of its aggregation layer. It has asked its own
authorizers by then, so there is nothing left to authorize.
"""

import ssl
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from tandem_api.status import RouterStatus

from tandem_operator.adapter.values import METRICS, Scope, value

GROUP_VERSION: Final = "external.metrics.k8s.io/v1beta1"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_ROOT: Final = f"/apis/{GROUP_VERSION}"


def app(
    routers: Callable[[], Iterable[RouterStatus]], timestamp: Callable[[], str], proxies: Collection[str]
) -> web.Application:
    """The server.

    Args:
        routers: The last answers of the routers that do answer.
        timestamp: Now, as RFC 3339.
        proxies: Common names of the certificates that may ask; empty: of any that its authority signed.
    """

    @web.middleware
    async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
        if proxies and common_name(request.get_extra_info("peercert")) not in proxies:
            return _failure(403, "Forbidden", "only the API server's aggregation layer may ask")
        return await handler(request)

    async def discover(request: web.Request) -> web.Response:
        return web.json_response(discovery())

    async def answer(request: web.Request) -> web.Response:
        metric, namespace = request.match_info["metric"], request.match_info["namespace"]
        try:
            labels = parse_selector(request.query.get("labelSelector", ""))
            found = value(metric, Scope.of(namespace, labels), routers())
        except KeyError:
            return _failure(404, "NotFound", f"there is no metric {metric}; there are {', '.join(METRICS)}")
        except ValueError as error:
            return _failure(400, "BadRequest", str(error))
        return web.json_response(metric_list(metric, labels, found, timestamp()))

    made = web.Application(middlewares=[admit])
    made.router.add_get(_ROOT, discover)
    made.router.add_get(f"{_ROOT}/namespaces/{{namespace}}/{{metric}}", answer)
    return made


def discovery() -> dict[str, Any]:
    """What there is to ask for (APIResourceList)."""
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": GROUP_VERSION,
        "resources": [
            {
                "name": metric,
                "singularName": "",
                "namespaced": True,
                "kind": "ExternalMetricValueList",
                "verbs": ["get"],
            }
            for metric in METRICS
        ],
    }


def metric_list(metric: str, labels: dict[str, str], found: float | None, now: str) -> dict[str, Any]:
    """One value, or none (ExternalMetricValueList); values are quantities, in thousandths."""
    item = {"metricName": metric, "metricLabels": labels, "timestamp": now}
    return {
        "kind": "ExternalMetricValueList",
        "apiVersion": GROUP_VERSION,
        "metadata": {},
        "items": [] if found is None else [{**item, "value": f"{round(found * 1000)}m"}],
    }


def common_name(certificate: Mapping[str, Any] | None) -> str:
    """Of a certificate as `ssl` tells it; empty where there is none."""
    fields = (field for part in (certificate or {}).get("subject", ()) for field in part)
    return next((str(value) for name, value in fields if name == "commonName"), "")


def parse_selector(text: str) -> dict[str, str]:
    """Of a label selector, what it matches exactly.

    Raises:
        ValueError: it asks for something else than equality.
    """
    labels = {}
    for term in filter(None, (part.strip() for part in text.split(","))):
        name, equals, wanted = term.replace("==", "=").partition("=")
        if not equals or name.endswith("!") or " " in name:
            raise ValueError(f"label selector {text!r}: only a=b is understood")
        labels[name] = wanted
    return labels


def tls(folder: Path, clients: str) -> ssl.SSLContext:
    """Of the server: a certificate of its own, and nobody without one that `clients` (PEM) has signed."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=clients)
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_pair(context, folder)
    return context


def load_pair(context: ssl.SSLContext, folder: Path) -> None:
    """Takes the Secret's certificate, for connections from now on."""
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")


def _failure(status: int, reason: str, message: str) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message}
    return web.json_response({**body, "code": status}, status=status)
