"""From a resource to what it owns, on a real API server."""

import json
import time

import pytest

from tests.operator_live.platform import CHILDREN, SECONDS, Platform, service, until

ROLES = {"prefill", "decode"}


def _names(platform: Platform, kinds: str = CHILDREN) -> set[tuple[str, str, str]]:
    items = platform.list(kinds)
    return {(item["kind"], item["metadata"]["name"], item["metadata"]["uid"]) for item in items}


def _versions(platform: Platform) -> dict[str, str]:
    return {item["metadata"]["uid"]: item["metadata"]["resourceVersion"] for item in platform.list(CHILDREN)}


def _deployments(platform: Platform) -> dict[str, dict]:
    return {item["metadata"]["labels"]["tandem.dev/role"]: item for item in platform.list("deployments")}


@pytest.fixture
def applied(platform: Platform) -> Platform:
    platform.apply(service())
    return platform


def test_a_service_gets_its_children_and_owns_them(applied: Platform) -> None:
    with applied.operator() as operator:
        until(lambda: _deployments(applied).keys() == ROLES)
        operator.settled()
    children = applied.list(CHILDREN)
    assert {child["kind"] for child in children} >= {"Deployment", "Service", "ConfigMap", "PodDisruptionBudget"}
    uid = applied.get("tisvc", "one")["metadata"]["uid"]
    for child in children:
        (owner,) = child["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("InferenceService", uid, True)
        managers = {one["manager"] for one in child["metadata"].get("managedFields", ())}
        assert managers <= {"tandem-operator", "kube-controller-manager"}
    assert not applied.get("tisvc", "one")["metadata"].get("finalizers")


def test_a_settled_service_is_written_no_more(applied: Platform) -> None:
    with applied.operator() as operator:
        operator.settled()

        def looks_and_writes_nothing() -> bool:
            before, versions, looked = operator.writes(), _versions(applied), operator.looks()
            # Something that leads to a look, and to nothing else.
            note = f"example.com/note=after-{looked}"
            applied.cluster.kubectl("annotate", "-n", applied.namespace, "tisvc/one", note, "--overwrite")
            until(lambda: operator.looks() > looked)
            time.sleep(1)
            return operator.writes() == before and _versions(applied) == versions

        # Not the first time, where the cluster has had something to say of the children meanwhile.
        until(looks_and_writes_nothing, 2 * SECONDS)


def test_an_operator_that_starts_again_writes_nothing(applied: Platform) -> None:
    with applied.operator() as operator:
        operator.settled()

    def starts_and_writes_nothing() -> bool:
        before = applied.get("tisvc", "one")["metadata"]["resourceVersion"]
        with applied.operator() as operator:
            until(lambda: operator.looks() > 0)
            operator.settled()
            wrote = operator.writes() > 0
        return not wrote and applied.get("tisvc", "one")["metadata"]["resourceVersion"] == before

    # Not the first time, where the cluster has had something to say of the children meanwhile.
    until(starts_and_writes_nothing, 4 * SECONDS)


def test_deleting_a_service_leaves_nothing(applied: Platform) -> None:
    with applied.operator() as operator:
        operator.settled()
        assert _names(applied)
        applied.delete("tisvc", "one")
        until(lambda: not _names(applied, CHILDREN + ",pods,replicasets"))


def test_a_service_deleted_while_no_operator_runs_leaves_nothing(applied: Platform) -> None:
    with applied.operator() as operator:
        operator.settled()
    applied.delete("tisvc", "one", "--wait=false")
    until(lambda: not _names(applied, CHILDREN + ",pods,replicasets"))


@pytest.mark.parametrize("kind", ["Deployment", "Service", "ConfigMap", "PodDisruptionBudget", "ServiceAccount"])
def test_a_child_that_a_user_deletes_returns(applied: Platform, kind: str) -> None:
    with applied.operator() as operator:
        operator.settled()
        lost = next(name for name in sorted(_names(applied)) if name[0] == kind)
        applied.delete(kind.lower(), lost[1], "--wait=false")
        until(lambda: any(one[:2] == lost[:2] and one[2] != lost[2] for one in _names(applied)))


def test_a_service_made_anew_under_its_name_gets_children_of_its_own(applied: Platform) -> None:
    with applied.operator() as operator:
        operator.settled()
        former = {uid for _, _, uid in _names(applied)}
        applied.delete("tisvc", "one", "--wait=true")
        applied.apply(service())
        uid = applied.get("tisvc", "one")["metadata"]["uid"]
        until(lambda: _deployments(applied).keys() == ROLES and not former & {one for _, _, one in _names(applied)})
        operator.settled()
    assert {child["metadata"]["ownerReferences"][0]["uid"] for child in applied.list(CHILDREN)} == {uid}


def test_replicas_are_changed_in_place(applied: Platform) -> None:
    with applied.operator() as operator:
        operator.settled()
        before = _deployments(applied)["decode"]
        applied.apply(service(decode={"replicas": 3}))
        until(lambda: _deployments(applied)["decode"]["spec"]["replicas"] == 3)
    after = _deployments(applied)["decode"]
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["spec"]["template"] == before["spec"]["template"]


def test_replicas_that_a_user_sets_on_a_deployment_are_set_back(applied: Platform) -> None:
    with applied.operator() as operator:
        operator.settled()
        name = _deployments(applied)["decode"]["metadata"]["name"]
        applied.cluster.kubectl("scale", "-n", applied.namespace, f"deployment/{name}", "--replicas=4")
        until(lambda: _deployments(applied)["decode"]["spec"]["replicas"] == 1)


def test_what_waits_in_a_pod_reaches_the_status(applied: Platform) -> None:
    with applied.operator():
        pods = until(lambda: applied.list("pods", "tandem.dev/role=decode"))
        waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
        container = {"name": "worker", "image": "x:typo", "imageID": "", "ready": False, "restartCount": 0}
        applied.set_status(
            pods[0]["metadata"]["name"],
            phase="Pending",
            containerStatuses=[{**container, "state": {"waiting": waiting}}],
        )
        until(lambda: "x:typo" in json.dumps(applied.get("tisvc", "one").get("status", {})))
