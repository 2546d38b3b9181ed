"""Experiments as Prometheus sees them: read from the statuses that were last told, when somebody asks.

Their labels change with every experiment, so no gauge is kept: what is gone is shown no more.
"""

from collections.abc import Iterable, Iterator
from typing import Final, get_args

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from tandem_api.inference_service.status import ExperimentState

from tandem_operator.planning.experiments.progress import Phase

_SERVICE: Final = ("namespace", "service")


class ExperimentCollector(Collector):
    """Keeps the state of each service's experiment."""

    def __init__(self) -> None:
        self._states: dict[tuple[str, str], ExperimentState] = {}

    def told(self, namespace: str, service: str, state: ExperimentState | None) -> None:
        """What is said of a service's experiment; None: it has none."""
        if state is None:
            self._states.pop((namespace, service), None)
        else:
            self._states[namespace, service] = state

    def collect(self) -> Iterable[Metric]:
        """Outcomes run from 0 (good) to 1 (bad)."""
        yield _family("requests", "Requests that count.", ("version",), self._requests())
        yield _family("weight", "Percent of the traffic that is decided.", ("version",), self._weights())
        yield _family("mean", "Mean outcome of a metric.", ("version", "metric"), self._means())
        yield _family("e_value", "E-value of harm or benefit.", ("direction", "metric"), self._e_values())
        yield _family("e_value_limit", "The e-value that decides.", ("direction",), self._limits())
        yield _family("phase", "1 for the phase that it is in.", ("phase",), self._phases())

    def _requests(self) -> "_Samples":
        for key, state in self._states.items():
            yield (*key, state.champion), state.champion_requests
            yield (*key, state.challenger), state.challenger_requests

    def _weights(self) -> "_Samples":
        for key, state in self._states.items():
            yield (*key, state.champion), 100 - state.weight
            yield (*key, state.challenger), state.weight

    def _means(self) -> "_Samples":
        for key, state in self._states.items():
            for metric in state.metrics:
                for version, mean in ((state.champion, metric.champion), (state.challenger, metric.challenger)):
                    if mean is not None:
                        yield (*key, version, metric.name), mean

    def _e_values(self) -> "_Samples":
        for key, state in self._states.items():
            for metric in state.metrics:
                yield (*key, "harm", metric.name), metric.harm
                yield (*key, "benefit", metric.name), metric.benefit

    def _limits(self) -> "_Samples":
        for key, state in self._states.items():
            yield (*key, "harm"), state.harm_from
            yield (*key, "benefit"), state.benefit_from

    def _phases(self) -> "_Samples":
        for key, state in self._states.items():
            yield from (((*key, phase), float(phase == state.phase)) for phase in get_args(Phase))


_Samples = Iterator[tuple[tuple[str, ...], float]]


def _family(name: str, text: str, labels: tuple[str, ...], samples: _Samples) -> Metric:
    family = GaugeMetricFamily(f"tandem_experiment_{name}", text, labels=(*_SERVICE, *labels))
    for values, sample in samples:
        family.add_metric(values, sample)
    return family
