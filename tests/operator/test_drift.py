"""What of an object is no longer as the operator applied it, by the API server's account of its fields."""

from collections.abc import Iterator
from typing import Any

import pytest
from tandem_operator.planning.drift import drifted

SERVICE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {
        "name": "llama",
        "namespace": "default",
        "labels": {"app": "llama"},
        "ownerReferences": [{"kind": "InferenceService", "name": "llama", "uid": "1-2"}],
    },
    "spec": {
        "clusterIP": "None",
        "selector": {"app": "llama"},
        "ports": [
            {"name": "grpc", "port": 9000, "targetPort": "grpc"},
            {"name": "health", "port": 9001, "targetPort": "health"},
        ],
    },
}
OWN: dict[str, Any] = {
    "f:metadata": {"f:labels": {"f:app": {}}, "f:ownerReferences": {'k:{"uid":"1-2"}': {}}},
    "f:spec": {
        "f:clusterIP": {},
        "f:selector": {},
        "f:ports": {
            'k:{"port":9000,"protocol":"TCP"}': {".": {}, "f:name": {}, "f:port": {}, "f:targetPort": {}},
            'k:{"port":9001,"protocol":"TCP"}': {".": {}, "f:name": {}, "f:port": {}, "f:targetPort": {}},
        },
    },
}
"""What an API server answers to applying it: list items by their keys, label selectors and owners as a whole."""


def places(fields: dict[str, Any], at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of all fields."""
    for name, below in fields.items():
        if name != ".":
            yield (*at, name)
            yield from places(below, (*at, name))


def without(fields: dict[str, Any], name: str, *below: str) -> dict[str, Any]:
    """As the account is once somebody else has a field. It keeps no struct of which nothing is left."""
    rest = {one: part for one, part in fields.items() if one != name}
    if below and (left := without(fields[name], *below)).keys() - {"."}:
        rest[name] = left
    return rest


def test_what_nobody_has_changed_is_as_it_was_applied() -> None:
    assert not drifted(OWN, SERVICE)


@pytest.mark.parametrize("place", list(places(OWN)), ids="/".join)
def test_a_field_that_is_anybody_elses_has_changed(place: tuple[str, ...]) -> None:
    assert drifted(without(OWN, *place), SERVICE)


def test_an_object_of_which_the_operator_owns_nothing_has_changed() -> None:
    assert drifted({}, SERVICE)


def test_fields_that_have_nothing_in_them_are_nobodys() -> None:
    policy = {"metadata": {"name": "llama"}, "spec": {"policyTypes": ["Ingress"], "ingress": [], "podSelector": {}}}
    assert not drifted({"f:spec": {"f:policyTypes": {}}}, policy)
