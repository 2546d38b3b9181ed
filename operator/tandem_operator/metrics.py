"""What the operator measures of itself, for Prometheus."""

from collections.abc import Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector

from tandem_operator.experiment_metrics import ExperimentCollector

SECONDS: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


class Metrics:
    """Counters of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry: Final = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.reconciles = Counter(
            "tandem_operator_reconciles", "Looks at a service.", ["result"], registry=self.registry
        )
        self.seconds = Histogram(
            "tandem_operator_reconcile_seconds", "One look at a service.", buckets=SECONDS, registry=self.registry
        )
        self.planning = Histogram(
            "tandem_operator_planning_seconds", "Of that: observing, planning.", buckets=SECONDS, registry=self.registry
        )
        self.queue = Gauge("tandem_operator_queue_depth", "Services that wait for a look.", registry=self.registry)
        self.requests = Counter(
            "tandem_operator_api_requests",
            "Requests to the API server.",
            ["verb", "kind", "code"],
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "tandem_operator_api_request_seconds", "One of them.", ["verb"], buckets=SECONDS, registry=self.registry
        )
        self.events = Counter(
            "tandem_operator_watch_events", "Changes seen in the cluster.", ["kind"], registry=self.registry
        )
        self.polls = Counter(
            "tandem_operator_router_polls", "Questions to routers.", ["result"], registry=self.registry
        )
        self.conditions = Gauge(
            "tandem_service_condition",
            "Conditions of services: 1 True, 0 False, -1 Unknown.",
            ["namespace", "service", "condition"],
            registry=self.registry,
        )
        self.experiments = ExperimentCollector()
        self.registry.register(self.experiments)

    def request(self, verb: str, kind: str, status: int, seconds: float) -> None:
        """Counts a request to the API server; status 0: there was no answer."""
        self.requests.labels(verb, kind, str(status) if status else "none").inc()
        self.request_seconds.labels(verb).observe(seconds)

    def told(self, namespace: str, service: str, conditions: Mapping[str, str]) -> None:
        """Keeps a service's conditions, by type."""
        for type, status in conditions.items():
            self.conditions.labels(namespace, service, type).set({"True": 1, "False": 0}.get(status, -1))

    def forget(self, namespace: str, service: str) -> None:
        """Nothing is said of a service that is gone."""
        self.conditions.remove_by_labels({"namespace": namespace, "service": service})
        self.experiments.told(namespace, service, None)
