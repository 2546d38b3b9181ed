import pytest
from hypothesis import given
from hypothesis import strategies as st
from tandem_engine.errors import KvMismatch
from tandem_engine.kv.content import check_handle, content_hash
from tandem_proto.tandem.v1 import kv_pb2

CONTENT = st.fixed_dictionaries(
    {
        "token_ids": st.lists(st.integers(0, 2**32 - 1), max_size=20),
        "multimodal": st.lists(st.text(max_size=8), max_size=3),
        "adapter": st.text(max_size=8),
        "cache_salt": st.text(max_size=8),
    }
)


def layout(**changes: object) -> kv_pb2.KvLayout:
    fields: dict[str, object] = {
        "engine": "vllm",
        "dtype": "float32",
        "layers": 4,
        "kv_heads": 2,
        "head_dim": 16,
        "block_size": 32,
        "order": "HND",
        "tensor_parallel": 1,
        "block_bytes": 32768,
    }
    return kv_pb2.KvLayout(**{**fields, **changes})


def handle(**changes: object) -> kv_pb2.KvHandle:
    fields: dict[str, object] = {
        "model": "m",
        "version": "v1",
        "revision": "r1",
        "layout": layout(),
        "content_hash": content_hash([1, 2, 3]),
        "tokens": 3,
    }
    return kv_pb2.KvHandle(**{**fields, **changes})


def check(given_handle: kv_pb2.KvHandle, own_layout: kv_pb2.KvLayout | None = None) -> None:
    check_handle(
        given_handle,
        model="m",
        version="v1",
        revision="r1",
        layout=own_layout or layout(),
        content_hash=content_hash([1, 2, 3]),
        tokens=3,
    )


@given(CONTENT, CONTENT)
def test_hashes_are_equal_only_for_equal_content(one: dict, other: dict) -> None:
    assert (content_hash(**one) == content_hash(**other)) == (one == other)


def test_a_hash_stays_what_it_is_from_release_to_release() -> None:
    expected = "66c24eb2130b04d931fe62a577c84f4ff39c3b6f1d8c79834e26e3374fa39fb5"
    assert content_hash([1, 2, 3], multimodal=["a"], adapter="b", cache_salt="c").hex() == expected


@pytest.mark.parametrize("token", [-1, 2**32])
def test_a_token_id_out_of_range_is_refused(token: int) -> None:
    with pytest.raises(ValueError, match="token ids"):
        content_hash([token])


def test_a_fitting_handle_is_accepted() -> None:
    check(handle())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model": "other"}, "model ('other', here 'm')"),
        ({"version": "v2"}, "version ('v2', here 'v1')"),
        ({"revision": "r2"}, "revision ('r2', here 'r1')"),
        ({"layout": layout(dtype="bfloat16")}, "layout (dtype bfloat16, here float32)"),
        ({"layout": layout(block_size=16)}, "layout (block_size 16, here 32)"),
        ({"tokens": 4}, "prompt (4 tokens, here 3)"),
        ({"content_hash": content_hash([1, 2, 4])}, "prompt, adapter or cache salt"),
        ({"content_hash": content_hash([1, 2, 3], adapter="lora")}, "prompt, adapter or cache salt"),
        ({"content_hash": content_hash([1, 2, 3], cache_salt="x")}, "prompt, adapter or cache salt"),
    ],
)
def test_a_foreign_handle_is_refused_and_what_differs_is_named(changes: dict, named: str) -> None:
    with pytest.raises(KvMismatch) as refused:
        check(handle(**changes))
    assert named in refused.value.message


@pytest.mark.parametrize("ranks", [2, 4])
def test_more_ranks_that_divide_evenly_are_compatible(ranks: int) -> None:
    check(handle(layout=layout(tensor_parallel=ranks)))


def test_ranks_of_which_neither_divides_the_other_are_refused() -> None:
    with pytest.raises(KvMismatch, match="one must divide the other"):
        check(handle(layout=layout(tensor_parallel=3)), layout(tensor_parallel=2))
