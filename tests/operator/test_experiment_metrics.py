"""What Prometheus reads of experiments."""

from prometheus_client import generate_latest
from tandem_api.inference_service.status import ExperimentState
from tandem_operator.metrics import Metrics

STATE = ExperimentState.model_validate(
    {
        "id": "e1",
        "champion": "v1",
        "challenger": "v2",
        "phase": "RolledBack",
        "championRequests": 900,
        "challengerRequests": 100,
        "harmFrom": 40,
        "benefitFrom": 20,
        "metrics": [{"name": "ttft p95", "champion": 0.05, "harm": 41.2, "benefit": 0.1}],
    }
)


def told(state: ExperimentState | None) -> list[str]:
    metrics = Metrics()
    metrics.experiments.told("ns", "llama", STATE)
    metrics.experiments.told("ns", "llama", state)
    lines = generate_latest(metrics.registry).decode().splitlines()
    return [line for line in lines if line.startswith("tandem_experiment_")]


def test_counts_weights_evidence_and_the_decision_are_told() -> None:
    of = 'namespace="ns",service="llama"'
    said = told(STATE)
    assert f'tandem_experiment_requests{{{of},version="v2"}} 100.0' in said
    assert f'tandem_experiment_weight{{{of},version="v1"}} 100.0' in said
    assert f'tandem_experiment_e_value{{direction="harm",metric="ttft p95",{of}}} 41.2' in said
    assert f'tandem_experiment_e_value_limit{{direction="harm",{of}}} 40.0' in said
    assert 'tandem_experiment_phase{namespace="ns",phase="RolledBack",service="llama"} 1.0' in said
    assert 'tandem_experiment_phase{namespace="ns",phase="Running",service="llama"} 0.0' in said


def test_an_unknown_mean_is_left_out() -> None:
    assert not [line for line in told(STATE) if line.startswith("tandem_experiment_mean") and 'version="v2"' in line]


def test_an_experiment_that_is_gone_is_told_no_more() -> None:
    assert told(None) == []
