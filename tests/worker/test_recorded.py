"""The frames of the first release against the code at hand: every release of a major version talks to every other."""

import json

import pytest
from tandem_proto.tandem.v1 import worker_pb2 as pb

from tests.worker.conftest import converse
from tests.worker.recording import RECORDED, SENT, later_downward, meaning, read_frames, record, upward, write_sessions

VERSIONS = sorted(RECORDED.parent.iterdir())


@pytest.mark.parametrize("version", VERSIONS, ids=lambda folder: folder.name)
@pytest.mark.parametrize("role", SENT)
async def test_a_recorded_router_is_answered_as_it_was(version, role):
    frames = await converse(role, read_frames(version / f"{role}.upward", pb.Upward))
    was, is_ = json.loads((version / f"{role}.json").read_text()), meaning(frames)
    assert is_["calls"] == was["calls"]
    assert is_["hello"]["worker"] == was["hello"]["worker"]
    assert is_["hello"]["protocol_min"] <= was["hello"]["protocol_max"]
    for part in ("layout", "limits"):
        assert is_["hello"][part].items() >= was["hello"][part].items()


@pytest.mark.parametrize("version", VERSIONS, ids=lambda folder: folder.name)
@pytest.mark.parametrize("name", [*SENT, "later"])
def test_recorded_downward_frames_mean_what_they_meant(version, name):
    frames = read_frames(version / f"{name}.downward", pb.Downward)
    assert meaning(frames) == json.loads((version / f"{name}.json").read_text())


def test_recorded_frames_hold_what_this_release_does_not_know():
    frames = read_frames(RECORDED / "later.downward", pb.Downward)
    assert [frame.SerializeToString() for frame in frames] == [frame.SerializeToString() for frame in later_downward()]
    assert all(b"later" in frame.SerializeToString() for frame in frames)
    assert frames[3].failed[0].code == 99
    assert b"later" in read_frames(RECORDED / "decode.upward", pb.Upward)[1].SerializeToString()


async def test_the_code_at_hand_can_be_recorded(tmp_path):
    write_sessions(tmp_path / "now", await record(converse))
    for role in SENT:
        said = read_frames(tmp_path / "now" / f"{role}.upward", pb.Upward)
        assert [message.SerializeToString(deterministic=True) for message in said] == [
            message.SerializeToString(deterministic=True) for message in upward(role)
        ]
