import contextlib
import io

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from tandem_engine.kv import pieces
from tandem_proto.tandem.v1 import kv_pb2

UINT32 = st.integers(0, 2**32 - 1)
UINT64 = st.integers(0, 2**64 - 1)


def encode(layer: int, offset: int, data: bytes, *, last: bool) -> bytes:
    return b"".join(pieces.encode(layer, offset, memoryview(data), last=last))


def receive(message: bytes) -> pieces.Piece:
    return pieces.receive(io.BytesIO(message), len(message), lambda _layer, _offset, size: memoryview(bytearray(size)))


@given(layer=UINT32, offset=UINT64, data=st.binary(max_size=300), last=st.booleans())
def test_what_is_written_is_the_protobuf_message(layer: int, offset: int, data: bytes, last: bool) -> None:
    message = kv_pb2.FetchResponse.FromString(encode(layer, offset, data, last=last))
    checksum = xxhash.xxh3_64_intdigest(data)
    assert message == kv_pb2.FetchResponse(layer=layer, offset=offset, data=data, checksum=checksum, last=last)


@given(layer=UINT32, offset=UINT64, data=st.binary(max_size=300), checksum=UINT64, last=st.booleans())
def test_what_protobuf_writes_is_read(layer: int, offset: int, data: bytes, checksum: int, last: bool) -> None:
    message = kv_pb2.FetchResponse(layer=layer, offset=offset, data=data, checksum=checksum, last=last)
    piece = receive(message.SerializeToString())
    assert (piece.layer, piece.offset, bytes(piece.data), piece.checksum, piece.last) == (
        layer,
        offset,
        data,
        checksum,
        last,
    )


@given(st.binary(max_size=64))
def test_garbage_is_refused_or_read_but_never_breaks(garbage: bytes) -> None:
    with contextlib.suppress(ValueError):
        receive(garbage)


def test_unknown_fields_are_skipped() -> None:
    message = encode(3, 5, b"data", last=True)
    unknown = kv_pb2.KvHandle(connector_params=b"x" * 20, connector="later").SerializeToString()
    piece = receive(message + unknown)
    assert (piece.layer, bytes(piece.data), piece.last, piece.intact) == (3, b"data", True, True)


@given(data=st.binary(min_size=1, max_size=100), at=st.integers(0, 99), bit=st.integers(0, 7))
def test_a_flipped_bit_is_seen(data: bytes, at: int, bit: int) -> None:
    damaged = bytearray(encode(0, 0, data, last=False))
    damaged[-1 - at % len(data)] ^= 1 << bit
    assert not receive(bytes(damaged)).intact


@pytest.mark.parametrize("cut", [1, 5, 11])
def test_a_cut_message_is_refused(cut: int) -> None:
    message = encode(1, 2, b"0123456789", last=True)
    with pytest.raises(ValueError, match=r"cut|longer"):
        receive(message[:-cut])


def test_data_goes_to_the_place_that_is_given_for_it_and_what_follows_is_left() -> None:
    message, place, asked = encode(2, 7, b"data", last=False), bytearray(6), []
    source = io.BytesIO(message + b"next")

    def give(*wanted: int) -> memoryview:
        asked.append(wanted)
        return memoryview(place)[1:5]

    pieces.receive(source, len(message), give)
    assert (asked, bytes(place), source.read()) == ([(2, 7, 4)], b"\0data\0", b"next")


def test_a_place_that_comes_after_its_data_is_refused() -> None:
    data_first = kv_pb2.FetchResponse(data=b"data").SerializeToString()
    with pytest.raises(ValueError, match="before its place"):
        receive(data_first + kv_pb2.FetchResponse(offset=4).SerializeToString())
