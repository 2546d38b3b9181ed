"""Whatever JSON comes as a request of Messages or Responses, an engine understands it or says what is wrong."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tandem_engine.engine import Call
from tandem_engine.errors import CallError
from tandem_engine.virtual.jobs import JobReader
from tandem_proto.tandem.v1 import worker_pb2
from tandem_virtual.tokens import Tokenizer

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 3000) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
BLOCKS = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image", "tool_use", "tool_result", "thinking", "document", "input_text", "x"])},
    optional=dict.fromkeys(("text", "source", "id", "name", "input", "tool_use_id", "content", "image_url"), JSON),
)
TURNS = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system", "tool"])},
        optional={"content": st.text(max_size=8) | st.lists(BLOCKS, max_size=3), "type": st.just("message")},
    ),
    max_size=3,
)
MEMBERS = ("system", "instructions", "tools", "tool_choice", "thinking", "output_config", "text", "reasoning", "stop")
NUMBERS = ("max_tokens", "max_output_tokens", "temperature", "top_p", "top_k", "stop_sequences", "metadata", "stream")
BODIES = st.fixed_dictionaries(
    {"model": st.just("m"), "messages": TURNS | JSON, "input": TURNS | JSON | st.text()},
    optional=dict.fromkeys((*MEMBERS, *NUMBERS), JSON),
)
APIS = [worker_pb2.API_MESSAGES, worker_pb2.API_COUNT_TOKENS, worker_pb2.API_RESPONSES]


@pytest.mark.parametrize("api", APIS, ids=worker_pb2.Api.Name)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(body=BODIES)
def test_any_json_is_understood_or_refused(api: Any, body: dict[str, Any]) -> None:
    reader = JobReader("m", 4096, 8192, Tokenizer())
    try:
        job = reader.read(Call("id-1", api, json.dumps(body).encode()))
    except CallError:
        return
    assert job.prompts[0]
    assert 1 <= (job.sampling.max_tokens or 1) <= 8192
    assert 0 <= job.sampling.temperature <= 2
    assert 0 <= job.sampling.top_p <= 1


@pytest.mark.parametrize("api", APIS, ids=worker_pb2.Api.Name)
@given(raw=st.binary(max_size=40))
def test_any_bytes_are_refused(api: Any, raw: bytes) -> None:
    with pytest.raises(CallError):
        JobReader("m", 4096, 8192, Tokenizer()).read(Call("id-1", api, raw))
