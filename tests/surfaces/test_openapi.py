"""What a router's OpenAPI allows, and what it forbids, is answered by documented statuses and shapes.

Failure models are off, and workers are ready: so nothing may come to a 5xx.
"""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.router.platforms import Platform

MODELS = ("sky", "virtual-gpt-4", "onwards")
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["right", "wrong"])
def test_a_router_answers_as_its_openapi_says(pair: Platform, mode: GenerationMode) -> None:
    asked = 0
    for found in schemathesis.openapi.from_url(f"{pair.url}/openapi.json").get_all_operations():
        operation = found.ok()
        if mode is GenerationMode.NEGATIVE and operation.method == "get":
            continue
        asked += 1

        @settings(
            max_examples=8,
            deadline=None,
            derandomize=True,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def answers_well(case: Any) -> None:
            if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
                # Most names that are drawn are nobody's, and would leave nothing else to be tried.
                case.body["model"] = MODELS[len(case.body["model"]) % len(MODELS)]
            answer = case.call(timeout=60)
            assert answer.status_code < 500
            case.validate_response(answer, checks=CHECKS)

        answers_well()
    assert asked > 5


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}),
        ("/v1/completions", {"prompt": "Hi"}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "Hi"}]}),
        ("/virtual/v1/chat/completions", {"model": "virtual-gpt-4", "messages": [{"role": "user", "content": "Hi"}]}),
    ],
)
def test_a_stream_is_as_the_openapi_says(pair: Platform, path: str, more: dict[str, Any]) -> None:
    operation = schemathesis.openapi.from_url(f"{pair.url}/openapi.json")[path]["POST"]
    body = {"model": "sky", "max_tokens": 2, "stream": True, **more}
    case = operation.Case(body=body, media_type="application/json")
    answer = case.call(timeout=60)
    assert (answer.status_code, answer.headers["content-type"][0].split(";")[0]) == (200, "text/event-stream")
    case.validate_response(answer, checks=CHECKS)
