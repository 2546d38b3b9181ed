"""The version split: agreed on by hashing, stable when weights and readiness change."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tandem_router.scheduling.split import BUCKETS, Share, choose, effective, fnv1a_64


def always(_: str) -> bool:
    return True


def test_the_hash_is_fnv1a_of_64_bits() -> None:
    # Vectors of the authors: http://www.isthe.com/chongo/tech/comp/fnv/
    assert fnv1a_64(b"") == 0xCBF29CE484222325
    assert fnv1a_64(b"a") == 0xAF63DC4C8601EC8C
    assert fnv1a_64(b"foobar") == 0x85944171F73967E8


def test_the_last_version_owns_the_first_buckets() -> None:
    shares = [Share("v1", 90), Share("v2", 10)]
    for number in range(500):
        key = f"user-{number}"
        wanted = "v2" if fnv1a_64(key.encode()) % BUCKETS < 100 else "v1"
        assert choose(shares, key, always) == wanted


@pytest.mark.parametrize(("key", "bucket"), [("a", 996), ("foobar", 968), ("user-1", 708)])
def test_a_key_is_the_later_versions_while_its_bucket_is_below_ten_times_the_percentage(key: str, bucket: int) -> None:
    for percent in range(101):
        shares = [Share("v1", 100 - percent), Share("v2", percent)]
        assert choose(shares, key, always) == ("v2" if bucket < 10 * percent else "v1")


@given(st.integers(0, 100), st.integers(0, 100), st.text())
def test_a_change_of_two_weights_moves_only_keys_whose_share_moved(before: int, after: int, key: str) -> None:
    bucket = fnv1a_64(key.encode()) % BUCKETS
    old = choose([Share("v1", 100 - before), Share("v2", before)], key, always)
    new = choose([Share("v1", 100 - after), Share("v2", after)], key, always)
    low, high = sorted((before, after))
    assert (old != new) == (low * 10 <= bucket < high * 10)


@given(st.text())
def test_three_versions_split_in_reverse_order_of_the_list(key: str) -> None:
    bucket = fnv1a_64(key.encode()) % BUCKETS
    owner = choose([Share("a", 50), Share("b", 30), Share("c", 20)], key, always)
    assert owner == ("c" if bucket < 200 else "b" if bucket < 500 else "a")


@given(st.text())
def test_only_the_keys_of_an_unready_version_move(key: str) -> None:
    shares = [Share("a", 50), Share("b", 30), Share("c", 20)]
    usual = choose(shares, key, always)
    without_b = choose(shares, key, lambda name: name != "b")
    assert without_b != "b"
    if usual != "b":
        assert without_b == usual
    else:
        # FNV-1a-64(key + "/" + name) over the rest by weight: c owns the first 20 of 70.
        position = fnv1a_64(f"{key}/b".encode()) % BUCKETS * 70
        assert without_b == ("c" if position < 20 * BUCKETS else "a")


def test_an_unready_versions_keys_are_shared_out_by_weight() -> None:
    shares = [Share("a", 60), Share("b", 10), Share("c", 30)]
    owners = Counter(choose(shares, f"key-{n}", lambda name: name != "a") for n in range(20_000))
    assert set(owners) == {"b", "c"}
    assert 0.23 < owners["b"] / owners.total() < 0.27


def test_another_salt_is_another_split() -> None:
    shares = [Share("v1", 50), Share("v2", 50)]
    keys = [f"user-{n}" for n in range(1000)]
    same = sum(choose(shares, key, always) == choose(shares, key, always, salt="exp-1") for key in keys)
    assert 400 < same < 600


def test_a_version_without_weight_serves_nobody() -> None:
    assert choose([Share("v1", 0), Share("v2", 100)], "anyone", lambda name: name == "v1") is None


def test_nothing_ready_serves_nobody() -> None:
    assert choose([Share("v1", 50), Share("v2", 50)], "anyone", lambda _: False) is None


def test_effective_weights_are_what_the_ready_versions_serve() -> None:
    shares = [Share("a", 60), Share("b", 10), Share("c", 30)]
    assert effective(shares, always) == {"a": 60, "b": 10, "c": 30}
    assert effective(shares, lambda name: name != "a") == {"a": 0, "b": 25, "c": 75}
    assert effective(shares, lambda _: False) == {"a": 0, "b": 0, "c": 0}
