"""Whose a model's name is."""

from itertools import permutations

from tandem_api.ownership import Claim, taken

OLD, YOUNG = "2025-01-01T00:00:00Z", "2025-01-02T00:00:00Z"


def test_the_older_service_keeps_a_model_name() -> None:
    claims = [Claim("default/a", "m", YOUNG), Claim("default/b", "m", OLD), Claim("default/c", "other", YOUNG)]
    assert taken(claims) == {"default/a": "default/b"}


def test_of_equally_old_services_everybody_finds_the_same_owner() -> None:
    claims = [Claim(service, "m", OLD) for service in ("b/x", "a/y", "a/z")]
    for order in permutations(claims):
        assert taken(order) == {"a/z": "a/y", "b/x": "a/y"}


def test_of_services_without_an_age_the_first_keeps_a_model_name() -> None:
    assert taken([Claim("default/b", "m"), Claim("default/a", "m")]) == {"default/a": "default/b"}
