"""An experiment within the plan of its service: weights, what is kept, what people are told."""

from typing import Any

import pytest
from tandem_api.status import RouterStatus, ServiceStatus
from tandem_operator.planning import Installation, Observed, Plan, plan
from tandem_operator.planning.experiments.conducting import ANNOTATION, RECORD
from tandem_operator.planning.experiments.record import load
from tandem_operator.planning.observed import Child, RouterView

from tests.operator.experiments.reporting import report, single
from tests.operator.making import fields_of, service, version

VIRTUAL = {"engine": {"type": "virtual"}}
SPEC: dict[str, Any] = {
    "versions": [version(name="v2", **VIRTUAL), version(name="v1", **VIRTUAL)],
    "experiment": {"champion": "v1", "challenger": "v2", "weight": 20, "decide": [{"metric": "errorRate"}]},
}


class World:
    """Keeps what a plan writes, as a cluster would."""

    def __init__(self, **installation: Any) -> None:
        self.resource = service(**SPEC)
        self.installation = Installation(**installation)
        self.child: Child | None = None
        self.experiments: tuple[Any, ...] = ()
        self.outcomes: dict[str, Any] = {}
        self.now = 1000.0

    def step(self) -> Plan:
        told = ServiceStatus(name="llama", namespace="default", model="llama", queued=0, versions=())
        status = RouterStatus(router="router-0", release="1", ready=True, services=(told,))
        made = plan(
            self.resource,
            Observed(
                children=(self.child,) if self.child else (),
                routers=(RouterView("router-0", pod_ready=True, status=status),),
                reports=self.experiments,
                outcomes=self.outcomes,
            ),
            self.now,
            self.installation,
        )
        if made.status is not None:
            self.resource = self.resource.model_copy(update={"status": made.status})
        for one in made.apply:
            if one["metadata"]["name"] == "llama-experiment":
                applied = one["metadata"]["annotations"]["tandem.dev/applied"]
                self.child = Child(
                    "ConfigMap",
                    "llama-experiment",
                    "u",
                    applied=applied,
                    fields=fields_of(one),
                    record=one["data"][RECORD],
                )
        return made

    @property
    def weights(self) -> dict[str, int | None]:
        assert self.resource.status is not None
        return {state.name: state.weight for state in self.resource.status.versions}

    @property
    def experiment(self) -> Any:
        assert self.resource.status is not None
        return self.resource.status.experiment

    def command(self, word: str) -> None:
        metadata = self.resource.metadata.model_copy(update={"annotations": {ANNOTATION: word}})
        self.resource = self.resource.model_copy(update={"metadata": metadata})

    def concluded(self) -> Any:
        assert self.resource.status is not None
        return next(one for one in self.resource.status.conditions if one.type == "ExperimentConcluded")


def test_the_challenger_waits_without_traffic_until_it_serves() -> None:
    world = World()
    world.step()
    assert world.weights == {"v1": 100, "v2": 0}
    assert list(world.weights) == ["v1", "v2"]  # the challenger owns the first buckets
    assert world.concluded().reason == "ChallengerNotReady"


def test_a_steady_experiment_writes_nothing() -> None:
    world = World()
    world.step()
    made = world.step()
    assert made.status is None
    assert "llama-experiment" not in {one["metadata"]["name"] for one in made.apply}
    assert not any(one.name == "llama-experiment" for one in made.delete)


def test_it_is_kept_in_a_config_map_of_the_service() -> None:
    world = World()
    (kept,) = (one for one in world.step().apply if one["metadata"]["name"] == "llama-experiment")
    assert kept["metadata"]["ownerReferences"][0]["name"] == "llama"
    record = load(kept["data"][RECORD])
    assert record is not None
    assert record.state == world.experiment


@pytest.mark.parametrize(("word", "weights"), [("promote", {"v1": 0, "v2": 100}), ("abort", {"v1": 100, "v2": 0})])
def test_commands_move_the_weights_that_routers_act_on(word: str, weights: dict[str, int]) -> None:
    world = World()
    world.step()
    world.command(word)
    made = world.step()
    assert world.weights == weights
    assert world.concluded().status == "True"
    assert [event.message for event in made.events if event.reason.startswith("Experiment")]


def test_a_promotion_asks_to_be_committed() -> None:
    world = World()
    world.command("promote")
    world.step()
    assert "remove `experiment` and v1 from the spec" in world.concluded().message


def test_harm_that_routers_report_takes_the_traffic_away() -> None:
    world = World()
    world.step()
    # As if it had begun: only a challenger that serves does.
    running = world.experiment.model_copy(update={"phase": "Running", "weight": 20, "reason": "Collecting"})
    assert world.resource.status is not None
    status = world.resource.status.model_copy(update={"experiment": running})
    world.resource, world.child = world.resource.model_copy(update={"status": status}), None
    world.step()
    assert world.weights == {"v1": 80, "v2": 20}
    world.experiments = (report(world.experiment.id, 20, errorRate=single((800, 8), (200, 40))),)
    made = world.step()
    assert world.weights == {"v1": 100, "v2": 0}
    assert world.concluded().message.startswith("Harm shown in errorRate (e = ")
    assert [event.reason for event in made.events if event.type == "Warning"] == ["ExperimentRolledBack"]


def test_the_registry_is_asked_and_then_told() -> None:
    world = World(registry=True)
    made = world.step()
    assert made.inquire == world.experiment.id
    assert world.concluded().reason == "RegistryNotAsked"
    world.outcomes = {world.experiment.id: "none"}
    world.command("abort")
    made = world.step()
    assert made.inquire is None
    assert made.tell is not None
    assert made.tell.state.phase == "RolledBack"


def test_without_an_experiment_there_is_no_condition_about_one() -> None:
    world = World()
    world.resource = service(versions=[version(**VIRTUAL)])
    world.step()
    assert world.resource.status is not None
    assert not any(one.type == "ExperimentConcluded" for one in world.resource.status.conditions)
