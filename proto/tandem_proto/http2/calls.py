"""How a gRPC call begins and ends on HTTP/2: its request headers, the length before a message, its status."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

import grpc

from tandem_proto.http2.frames import ProtocolError

STREAM: Final = 1
"""A connection has one call."""

PREFIX: Final = 5
"""Bytes before each message: whether it is compressed, and its length."""


def request_headers(method: str, authority: str, *, encrypted: bool) -> list[tuple[str, str]]:
    """Of a call of `method` (/package.Service/Method)."""
    return [
        (":method", "POST"),
        (":scheme", "https" if encrypted else "http"),
        (":path", method),
        (":authority", authority),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ]


def with_prefix(message: bytes) -> bytes:
    """A message as it goes into DATA frames."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def message_size(prefix: bytes | bytearray, largest: int) -> int:
    """Bytes of the message that `prefix` begins.

    Raises:
        ProtocolError: It is compressed, which was not asked for, or has more than `largest`.
    """
    if prefix[0]:
        raise ProtocolError("a compressed message, which was not asked for")
    size = int.from_bytes(prefix[1:PREFIX], "big")
    if size > largest:
        raise ProtocolError(f"a message of {size} bytes; {largest} are allowed")
    return size


def status(trailers: Mapping[str, str]) -> tuple[grpc.StatusCode, str]:
    """How the call ended, and in which words."""
    number = trailers.get("grpc-status", "")
    codes = {str(code.value[0]): code for code in grpc.StatusCode}
    return codes.get(number, grpc.StatusCode.UNKNOWN), unquote(trailers.get("grpc-message", ""))
