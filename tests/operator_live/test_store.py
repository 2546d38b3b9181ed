"""What is known of the cluster, from objects as an API server writes them."""

from typing import Any

from tandem_operator.cluster import DEPLOYMENT
from tandem_operator.observing import name_owner, observe
from tandem_operator.planning.observed import Deployment, Pod
from tandem_operator.store import Store
from tandem_operator.watching import gone

KEY = ("ns", "one")
LABELS = {
    "tandem.dev/service": "one",
    "tandem.dev/version": "v1",
    "tandem.dev/revision": "r1",
    "tandem.dev/role": "decode",
}


def _meta(name: str, version: int, uid: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "namespace": "ns", "uid": uid, "resourceVersion": str(version), **fields}


def _service(
    name: str = "one", version: int = 1, model: str | None = None, created: str = "", **meta: Any
) -> dict[str, Any]:
    spec = {"model": model} if model else {}
    return {"metadata": _meta(name, version, f"uid-{name}", creationTimestamp=created, **meta), "spec": spec}


def _deployment(
    version: int = 2, replicas: int = 1, uid: str = "d", owner: str = "uid-one", **status: Any
) -> dict[str, Any]:
    owners = [{"uid": owner, "controller": True}]
    spec = {"replicas": replicas, "template": {"spec": {"containers": [{"image": "x"}]}}}
    return {"metadata": _meta("d", version, uid, labels=LABELS, ownerReferences=owners), "spec": spec, "status": status}


def _pod(version: int = 3, **status: Any) -> dict[str, Any]:
    return {"metadata": _meta("p", version, "p", labels=LABELS), "status": status}


def _replicas(store: Store) -> int:
    record = store.get("Deployment", "ns", "d")
    assert record is not None
    assert isinstance(record.view, Deployment)
    return record.view.replicas


def test_a_former_state_does_not_come_back() -> None:
    store = Store()
    assert store.put("Deployment", _deployment(5, replicas=3)) == {KEY}
    assert store.put("Deployment", _deployment(4, replicas=1)) == set()
    assert _replicas(store) == 3


def test_what_nobody_decides_on_leads_to_no_look_but_its_version_is_kept() -> None:
    store = Store()
    store.put("Deployment", _deployment(5))
    assert store.put("Deployment", _deployment(6, readyReplicas=1)) == set()
    record = store.get("Deployment", "ns", "d")
    assert record is not None
    assert isinstance(record.view, Deployment)
    assert record.view.resource_version == "6"


def test_the_answer_to_a_scale_is_known_before_the_watch_tells_of_it() -> None:
    store = Store()
    store.put("Deployment", _deployment(5))
    store.scaled("ns", "d", {"metadata": {"uid": "d", "resourceVersion": "9"}, "spec": {"replicas": 4}})
    assert _replicas(store) == 4
    assert store.put("Deployment", _deployment(8, replicas=1)) == set()
    assert _replicas(store) == 4


def test_what_was_deleted_does_not_come_back_by_a_late_event() -> None:
    store = Store()
    store.put("Deployment", _deployment(5))
    store.deleted("Deployment", "ns", "d", "d")
    assert store.put("Deployment", _deployment(7)) == set()
    assert store.get("Deployment", "ns", "d") is None
    assert store.put("Deployment", _deployment(8, uid="another")) == {KEY}


def test_the_end_of_a_former_object_does_not_take_the_one_of_its_name() -> None:
    store = Store()
    store.put("Deployment", _deployment(5, uid="former"))
    store.put("Deployment", _deployment(9, uid="later"))
    assert store.remove("Deployment", "ns", "d", "former") == set()
    assert store.get("Deployment", "ns", "d") is not None


def test_an_object_without_its_label_is_nobodys() -> None:
    store = Store()
    store.put("Deployment", _deployment(5))
    bare = _deployment(6)
    bare["metadata"]["labels"] = {}
    assert store.put("Deployment", bare) == {KEY}
    assert not list(store.of(KEY))


def test_services_of_one_model_name_are_all_looked_at_when_a_claim_comes_or_goes() -> None:
    store = Store()
    store.put("InferenceService", _service("one", 1, "m", "2026-01-01T00:00:00Z"))
    assert store.put("InferenceService", _service("two", 2, "m", "2026-01-02T00:00:00Z")) == {KEY, ("ns", "two")}
    two = store.service(("ns", "two"))
    assert two is not None
    assert name_owner(store, ("ns", "two"), two) == "ns/one"
    assert store.put("InferenceService", _service("two", 3, "m", "2026-01-02T00:00:00Z")) == {("ns", "two")}
    assert store.remove("InferenceService", "ns", "one", "uid-one") == {KEY, ("ns", "two")}
    assert name_owner(store, ("ns", "two"), two) is None


def test_children_of_a_former_resource_are_not_its_successors() -> None:
    store = Store()
    store.put("InferenceService", _service())
    store.put("Deployment", _deployment(owner="uid-of-a-former-one"))
    service = store.service(KEY)
    assert service is not None
    assert not observe(store, KEY, service, (), {}, (), {}).deployments
    store.put("Deployment", _deployment(7, uid="mine"))
    assert [one.uid for one in observe(store, KEY, service, (), {}, (), {}).deployments] == ["mine"]


def test_what_a_list_no_longer_holds_is_forgotten_unless_it_is_younger() -> None:
    store = Store()
    store.put("Deployment", _deployment(5))
    listed = {"metadata": {"resourceVersion": "4"}, "items": []}
    assert gone(store, DEPLOYMENT, None, listed) == set()
    assert gone(store, DEPLOYMENT, "elsewhere", {"metadata": {"resourceVersion": "6"}, "items": []}) == set()
    assert gone(store, DEPLOYMENT, "ns", {"metadata": {"resourceVersion": "6"}, "items": []}) == {KEY}
    assert store.get("Deployment", "ns", "d") is None


def _seen(**status: Any) -> Pod:
    store = Store()
    store.put("Pod", _pod(**status))
    record = store.get("Pod", "ns", "p")
    assert record is not None
    assert isinstance(record.view, Pod)
    return record.view


def test_a_pod_is_what_its_conditions_say() -> None:
    conditions = [{"type": "ContainersReady", "status": "True"}, {"type": "tandem.dev/Routable", "status": "True"}]
    pod = _seen(phase="Running", conditions=conditions)
    assert (pod.containers_ready, pod.routable, pod.ready, pod.terminating) == (True, True, False, False)
    assert _seen(phase="Failed").terminating


def test_a_pods_trouble_is_of_the_first_container_that_can_not_go_on() -> None:
    starting = {"state": {"waiting": {"reason": "ContainerCreating"}}}
    pulling = {"image": "x:typo", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such tag"}}}
    assert _seen(containerStatuses=[starting]).trouble is None
    trouble = _seen(containerStatuses=[starting, pulling]).trouble
    assert trouble is not None
    assert (trouble.reason, trouble.message, trouble.image) == ("ImagePullBackOff", "no such tag", "x:typo")


def test_a_crashing_containers_last_words_are_kept() -> None:
    ended = {"terminated": {"exitCode": 1, "reason": "Error", "message": "no GPU\n"}}
    crashing = {"state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}, "lastState": ended}
    trouble = _seen(containerStatuses=[crashing]).trouble
    assert trouble is not None
    assert trouble.reason == "CrashLoopBackOff"
    assert "no GPU" in trouble.message


def test_a_pod_that_no_node_takes_says_why() -> None:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes have a GPU",
    }
    trouble = _seen(phase="Pending", conditions=[condition]).trouble
    assert trouble is not None
    assert (trouble.reason, trouble.message) == ("Unschedulable", "0/3 nodes have a GPU")
