"""`GET /metrics`: what the router has counted, as Prometheus text, put together when somebody asks.

The first seven names are fixed: dashboards read them. All others are `tandem_router_*`.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from tandem_router.access.ring import KeyRing
from tandem_router.limits.limiter import Limiter
from tandem_router.scheduling.fleet import Fleet
from tandem_router.telemetry.measures import Distribution, RouterMeasures, VersionMeasures

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4

_VERSION: Final = ("service", "version")


class RouterCollector(Collector):
    """Reads a router's measures, its fleet, and what it knows of keys and limits."""

    def __init__(self, measures: RouterMeasures, fleet: Fleet, keys: KeyRing, limiter: Limiter) -> None:
        self._keys = keys
        self._limiter = limiter
        self._measures = measures
        self._fleet = fleet

    def collect(self) -> Iterable[Metric]:
        yield from self._fixed()
        yield from self._versions()
        yield from self._sessions()

    def _fixed(self) -> Iterator[Metric]:
        m = self._measures
        yield CounterMetricFamily("requests", "Completed requests.", value=m.requests)
        yield CounterMetricFamily("tokens_generated", "Generated tokens.", value=m.tokens)
        yield GaugeMetricFamily("tokens_per_second", "Tokens generated per second, last minute.", value=m.rate.rolling)
        yield GaugeMetricFamily(
            "tokens_per_second_ewma", "Tokens per second of single requests, alpha 0.1.", value=m.rate.ewma
        )
        latency = HistogramMetricFamily("request_latency_ms", "Latency of requests in milliseconds.")
        _add(latency, (), m.latency_ms)
        yield latency
        yield GaugeMetricFamily("active_requests", "Requests in flight.", value=m.active)
        errors = CounterMetricFamily("errors", "Responses of status 400 and above.", labels=("endpoint", "status_code"))
        for (endpoint, status), count in m.errors.items():
            errors.add_metric((endpoint, str(status)), count)
        yield errors
        refused = CounterMetricFamily("tandem_router_refused", "Requests that were not let in.", labels=("reason",))
        for reason, count in m.refused.items():
            refused.add_metric((reason,), count)
        yield refused
        yield from self._access()
        cut = CounterMetricFamily(
            "tandem_router_cut_streams", "Streams that ended before their end.", labels=("reason",)
        )
        for reason, count in m.cut_streams.items():
            cut.add_metric((reason,), count)
        yield cut
        cut_off = "Clients cut off because they did not read their stream."
        yield CounterMetricFamily("tandem_router_clients_cut_off", cut_off, value=m.cut_off)
        yield GaugeMetricFamily(
            "tandem_router_placed", "Places at workers that requests hold.", value=self._fleet.placed
        )
        yield GaugeMetricFamily("tandem_router_leases", "Leases of KV that requests hold.", value=self._fleet.leases)

    def _access(self) -> Iterator[Metric]:
        """Of the registry's keys and of Redis, where there are any."""
        if (age := self._keys.age) is not None:
            text = "Keys of the registry's store that are known here."
            yield GaugeMetricFamily("tandem_router_keys", text, value=self._keys.count)
            text = "Seconds since the registry confirmed its keys."
            yield GaugeMetricFamily("tandem_router_keys_age_seconds", text, value=age)
        if (shared := self._limiter.shared) is not None:
            text = "1 while Redis answers, so that limits hold over all routers."
            yield GaugeMetricFamily("tandem_router_limits_shared", text, value=shared.here)

    def _versions(self) -> Iterator[Metric]:
        yield self._counter("requests", "Requests by status; 499: the client went away.", _requests, "code")
        copies = CounterMetricFamily(
            "tandem_router_copies",
            "Copies of requests for a challenger: answered, failed; full and not_ready were dropped.",
            labels=(*_VERSION, "outcome"),
        )
        for labels, count in self._measures.copies.items():
            copies.add_metric(labels, count)
        yield copies
        yield self._counter("retries", "Attempts that another one followed.", _retries, "role", "reason")
        yield self._counter("kv_outcomes", "Answers by how they came by their prompt's KV.", _kv, "outcome", "reason")
        for name, text, attribute in (
            ("kv_bytes", "KV bytes moved for answers.", "kv_bytes"),
            ("prompt_tokens", "Prompt tokens of answers.", "prompt_tokens"),
            ("estimated_prompt_tokens", "What prompts were taken for when routed.", "estimated_tokens"),
            ("completion_tokens", "Generated tokens.", "completion_tokens"),
        ):
            family = CounterMetricFamily(f"tandem_router_{name}", text, labels=_VERSION)
            for v in self._measures.versions.values():
                family.add_metric((v.service, v.version), getattr(v, attribute))
            yield family
        for name, text, attribute in (
            ("time_to_first_token_seconds", "TTFT, of whole answers at their worker.", "ttft"),
            (
                "worker_ttft_seconds",
                "From decode's submit to its first token, as the worker measured it.",
                "worker_ttft",
            ),
            ("time_per_output_token_seconds", "Mean ITL of each stream.", "tpot"),
            ("queue_seconds", "Wait for a place at a worker.", "queued"),
            ("held_seconds", "Wait of requests that came while their version had no pair.", "held"),
            ("prefill_seconds", "Prefill as the router saw it.", "prefill"),
            ("kv_transfer_seconds", "KV transfers.", "kv_transfer"),
            ("score", "What clients posted back for answers.", "score"),
        ):
            histogram = HistogramMetricFamily(f"tandem_router_{name}", text, labels=_VERSION)
            for v in self._measures.versions.values():
                _add(histogram, (v.service, v.version), getattr(v, attribute))
            yield histogram

    def _counter(
        self,
        name: str,
        text: str,
        items: Callable[[VersionMeasures], Iterable[tuple[tuple[str, ...], int]]],
        *labels: str,
    ) -> Metric:
        family = CounterMetricFamily(f"tandem_router_{name}", text, labels=(*_VERSION, *labels))
        for measures in self._measures.versions.values():
            for values, count in items(measures):
                family.add_metric((measures.service, measures.version, *values), count)
        return family

    def _sessions(self) -> Iterator[Metric]:
        queued = GaugeMetricFamily("tandem_router_queued", "Requests that wait for a place.", labels=_VERSION)
        held = GaugeMetricFamily(
            "tandem_router_held", "1 while requests wait for a pair that is to come.", labels=_VERSION
        )
        labels = (*_VERSION, "role", "worker")
        sessions = GaugeMetricFamily(
            "tandem_router_session", "1 while there is a session to the worker.", labels=labels
        )
        ready = GaugeMetricFamily("tandem_router_worker_ready", "1 while the worker may be used.", labels=labels)
        frames = CounterMetricFamily("tandem_router_frames", "Frames that came from the worker.", labels=labels)
        events = CounterMetricFamily("tandem_router_events", "Chunks of answers in those frames.", labels=labels)
        for service in self._fleet.services.values():
            for version in service.versions.values():
                queued.add_metric((service.full_name, version.name), len(version.queue))
                held.add_metric((service.full_name, version.name), version.held)
            for (version_name, _, role, name, _), worker in service.workers.items():
                values = (service.full_name, version_name, role, name)
                sessions.add_metric(values, worker.link.connected)
                ready.add_metric(values, worker.ready)
                frames.add_metric(values, worker.link.frames)
                events.add_metric(values, worker.link.events)
        yield from (queued, held, sessions, ready, frames, events)


class Exposition:
    """The text that Prometheus reads."""

    def __init__(self, collector: Collector) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(collector)
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        return generate_latest(self._registry)


def _requests(measures: VersionMeasures) -> Iterable[tuple[tuple[str, ...], int]]:
    return (((str(status),), count) for status, count in measures.requests.items())


def _retries(measures: VersionMeasures) -> Iterable[tuple[tuple[str, ...], int]]:
    return measures.retries.items()


def _kv(measures: VersionMeasures) -> Iterable[tuple[tuple[str, ...], int]]:
    return measures.kv.items()


def _add(family: HistogramMetricFamily, labels: tuple[str, ...], distribution: Distribution) -> None:
    total = 0
    buckets = []
    for bound, count in zip((*distribution.bounds, float("inf")), distribution.counts, strict=True):
        total += count
        buckets.append(("+Inf" if bound == float("inf") else str(bound), total))
    family.add_metric(labels, buckets, distribution.sum)
