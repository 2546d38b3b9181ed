import json

from tandem_api.openai.errors import ERROR_KINDS, error_body, failure_body, failure_event
from tandem_proto.tandem.v1 import worker_pb2


def test_every_error_has_all_four_members() -> None:
    assert json.loads(error_body("no", param="model")) == {
        "error": {"message": "no", "type": "invalid_request_error", "param": "model", "code": None}
    }


def test_every_code_of_the_worker_protocol_has_its_error() -> None:
    codes = set(worker_pb2.ErrorCode.keys()) - {"ERROR_CODE_UNSPECIFIED"}
    assert codes == set(ERROR_KINDS)


def test_a_code_of_a_later_release_is_an_internal_error() -> None:
    assert failure_body("LATER", "no")[0] == 500


def test_a_failure_in_a_stream_is_an_event_and_the_end() -> None:
    event, done, rest = failure_event("OVERLOADED", "no").decode().split("\n\n")
    assert json.loads(event.removeprefix("data: "))["error"]["code"] == "overloaded"
    assert (done, rest) == ("data: [DONE]", "")
