"""Sessions as they went over the wire in one release, kept so that later ones can be held to them.

`recorded/v1/` has, for each role, the frames of one session in both directions (length-prefixed messages, as
`google.protobuf.proto` reads and writes them) and what the downward ones mean (JSON). `later.downward` has frames as
a later release may send them: with fields and values that this one does not know. Recorded frames are never changed;
`python -m tests.worker.recording FOLDER` records the session of the code at hand into a folder of its own.
"""

import asyncio
import hashlib
import io
import json
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf import json_format, proto
from google.protobuf.message import Message
from tandem_engine.engine import Call, Outcome, Reply
from tandem_engine.errors import InvalidRequest
from tandem_proto.protocol import PIECE_BYTES
from tandem_proto.tandem.v1 import kv_pb2
from tandem_proto.tandem.v1 import worker_pb2 as pb

M = TypeVar("M", bound=Message)
RECORDED = Path(__file__).parent / "recorded" / "v1"
SSE = "text/event-stream; charset=utf-8"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SENT: Mapping[str, frozenset[int]] = {"decode": frozenset({1, 2, 3, 4, 5, 7, 8}), "prefill": frozenset({1, 2, 3, 4, 5})}
"""Calls of the sessions that get an answer."""


def write_frames(path: Path, frames: Iterable[Message]) -> None:
    with path.open("wb") as file:
        for frame in frames:
            proto.serialize_length_prefixed(frame, file)


def read_frames(path: Path, kind: type[M]) -> list[M]:
    file, frames = io.BytesIO(path.read_bytes()), []
    while (frame := proto.parse_length_prefixed(kind, file)) is not None:
        frames.append(frame)
    return frames


def meaning(frames: Iterable[pb.Downward]) -> dict[str, Any]:
    """What frames say, however it was cut into frames, without what is another at each run: times and load."""
    said: dict[str, Any] = {"hello": None, "ready": None, "calls": {}}
    data: dict[str, bytes] = {}
    for frame in frames:
        if frame.HasField("hello"):
            said["hello"] = _plain(frame.hello)
        for started in frame.started:
            said["calls"].setdefault(str(started.call_id), {})["started"] = _plain(started)
        for call_id, chunk in zip(frame.data_calls, frame.data, strict=True):
            data[str(call_id)] = data.get(str(call_id), b"") + chunk
        for kind, ends in (("finished", frame.finished), ("failed", frame.failed)):
            for end in ends:
                said["calls"].setdefault(str(end.call_id), {})[kind] = _plain(end)
        if frame.HasField("load"):
            said["ready"] = frame.load.ready
    for call_id, chunks in data.items():
        short = len(chunks) < 1000
        said["calls"].setdefault(call_id, {})["data"] = chunks.decode() if short else hashlib.sha256(chunks).hexdigest()
    return said


def _plain(message: Message) -> dict[str, Any]:
    plain = json_format.MessageToDict(message, preserving_proto_field_name=True, use_integers_for_enums=True)
    plain.pop("timings", None)
    return plain


def from_later(message: M) -> M:
    """The message with a field that this release does not know."""
    unknown = b"\xc2\x3e\x05later"  # field 1000, five bytes
    return type(message).FromString(message.SerializeToString() + unknown)


async def answer(call: Call, reply: Reply) -> Outcome:
    """The engine of the recorded sessions."""
    said = json.loads(call.body)
    if "refuse" in said:
        raise InvalidRequest(said["refuse"], param="temperature", type="invalid_request_error")
    if "whole" in said:
        return Outcome(pb.Usage(), whole_reason=said["whole"])
    if reply is None:
        handle = kv_pb2.KvHandle(
            addresses=["127.0.0.1:9100"],
            lease=call.response_id.encode(),
            ttl_ms=60_000,
            model="m",
            version="v1",
            revision="r1",
            content_hash=bytes(32),
            tokens=64,
            blocks=2,
            bytes=4096,
            holder="prefill-0",
            connector="grpc",
            layout=kv_pb2.KvLayout(engine="virtual", dtype="uint8", layers=2, block_size=32),
        )
        return Outcome(pb.Usage(prompt_tokens=64, computed_tokens=64), kv=handle)
    kv = pb.KvReport(outcome=pb.KvReport.WHOLE, reason=call.whole_reason)
    if call.kv is not None:
        kv = pb.KvReport(
            outcome=pb.KvReport.TRANSFERRED,
            connector="grpc",
            peer=call.kv.holder,
            bytes=call.kv.bytes,
            blocks=call.kv.blocks,
            micros=1500,
        )
    if "hang" in said:
        await asyncio.Event().wait()
    if "body" in said:
        body = json.dumps({"id": call.response_id, "text": said["body"]}).encode()
        reply.started(200, "application/json", len(body), kv)
        reply.data(body)
    else:
        reply.started(200, SSE, 0, kv)
        for word in said["words"]:
            reply.data(f"data: {word}\n\n".encode())
            await asyncio.sleep(0)
        reply.data(b"data: [DONE]\n\n")
    usage = pb.Usage(prompt_tokens=64, completion_tokens=3, computed_tokens=1 if call.kv else 64)
    return Outcome(usage, "stop", pb.Timings(queued_micros=10, first_token_micros=20, total_micros=30))


def upward(role: str) -> list[pb.Upward]:
    """What the router of the recorded sessions says."""
    hello = pb.Hello(protocol_min=1, protocol_max=1, features=["telepathy"], router="router-0")
    return [from_later(pb.Upward(hello=from_later(hello))), *(_prefill() if role == "prefill" else _decode())]


def _submit(call_id: int, body: object, **fields: Any) -> pb.Submit:
    raw = json.dumps(body).encode()
    fields = {"api": pb.API_CHAT_COMPLETIONS, "body_bytes": len(raw), "time_left_ms": 60_000} | fields
    return pb.Submit(call_id=call_id, response_id=f"resp-{call_id}", body=raw, **fields)


def _decode() -> list[pb.Upward]:
    long = _submit(2, {"words": ["word" * 100] * 200})
    rest, long.body = long.body[PIECE_BYTES:], long.body[:PIECE_BYTES]
    handle = kv_pb2.KvHandle(
        addresses=["127.0.0.1:9100"], lease=b"resp-3", tokens=64, blocks=2, bytes=4096, holder="prefill-0"
    )
    context = {"traceparent": TRACE, "tracestate": "a=b", "priority": -1, "tenant": "t"}
    return [
        pb.Upward(submits=[from_later(_submit(1, {"words": ["one", "two", "three"]}, whole_reason="echo"))]),
        pb.Upward(submits=[long], pieces=[pb.BodyPiece(call_id=2, data=rest)]),
        pb.Upward(submits=[_submit(3, {"words": ["kv"]}, kv=from_later(handle), **context)]),
        pb.Upward(submits=[_submit(4, {"words": []}, api=77)]),
        pb.Upward(submits=[_submit(5, {"body": "text"}, api=pb.API_COMPLETIONS), _submit(6, {"hang": True})]),
        pb.Upward(cancels=[6, 99], submits=[_submit(7, {"refuse": "temperature is 9: at most 2"})]),
        pb.Upward(hand_ons=[pb.HandOn(call_id=8, lease=b"none")], releases=[b"none"]),
    ]


def _prefill() -> list[pb.Upward]:
    return [
        pb.Upward(submits=[from_later(_submit(1, {"prompt": "p"}))]),
        pb.Upward(submits=[_submit(2, {"whole": "prompt_logprobs"}), _submit(3, {"refuse": "no such model"})]),
        pb.Upward(hand_ons=[pb.HandOn(call_id=4, lease=b"held")]),
        pb.Upward(releases=[b"held"], hand_ons=[pb.HandOn(call_id=5, lease=b"none")]),
    ]


def later_downward() -> list[pb.Downward]:
    """What a worker of a later release may say."""
    kv = pb.KvReport(outcome=99, reason="teleported")
    failed = pb.Failed(call_id=2, code=99, message="it is too late for this")
    load = pb.Load(ready=True, total_blocks=7, free_blocks=7)
    hello = pb.Hello(protocol_min=1, protocol_max=9, features=["telepathy"], worker=pb.Identity(name="later", role=9))
    started = pb.Started(call_id=1, status=200, content_type=SSE, kv=kv)
    finished = pb.Finished(call_id=1, usage=from_later(pb.Usage(prompt_tokens=2, completion_tokens=1)))
    return [
        from_later(pb.Downward(hello=from_later(hello), load=from_later(load))),
        from_later(pb.Downward()),  # of nothing but what is unknown
        pb.Downward(started=[from_later(started)], data_calls=[1], data=[b"data: one\n\n"]),
        pb.Downward(
            data_calls=[1], data=[b"data: [DONE]\n\n"], finished=[from_later(finished)], failed=[from_later(failed)]
        ),
    ]


Session = Callable[[str, list[pb.Upward]], Awaitable[list[pb.Downward]]]
"""Says the messages to a worker of the role and returns what it said."""


async def record(session: Session) -> dict[str, list[pb.Downward]]:
    """What is said in the sessions of both roles, and what later releases may say."""
    return {role: await session(role, upward(role)) for role in SENT} | {"later": later_downward()}


def write_sessions(folder: Path, sessions: Mapping[str, list[pb.Downward]]) -> None:
    """Writes them as `recorded/v1` has them."""
    folder.mkdir(parents=True)
    for name, frames in sessions.items():
        write_frames(folder / f"{name}.downward", frames)
        (folder / f"{name}.json").write_text(json.dumps(meaning(frames), indent=1, ensure_ascii=False) + "\n")
        if name in SENT:
            write_frames(folder / f"{name}.upward", upward(name))


if __name__ == "__main__":
    from tests.worker.conftest import converse

    write_sessions(Path(sys.argv[1]), asyncio.run(record(converse)))
