"""How a gRPC call begins and ends on HTTP/2: its request headers, the length before a message, its status."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, unquote

import grpc

from tandem_proto.http2.frames import ProtocolError


class CallFailed(Exception):
    """A call ended, or is to end, without success. `details` is for people."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(f"{code.name}: {details}" if details else code.name)
        self.code = code
        self.details = details


STREAM: Final = 1
"""Where a connection has one call."""

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
        ProtocolError: It is cut, or compressed, which was not asked for, or has more than `largest`.
    """
    if len(prefix) < PREFIX:
        raise ProtocolError("a message is cut")
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


def trailers(code: grpc.StatusCode, details: str = "") -> list[tuple[str, str]]:
    """How a server says it."""
    said = [("grpc-status", str(code.value[0]))]
    return [*said, ("grpc-message", quote(details))] if details else said


def timeout_of(given: str) -> float:
    """Seconds of a `grpc-timeout` header; without end where there is none, or nothing that can be read."""
    units = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
    number, unit = given[:-1], given[-1:]
    return int(number) * units[unit] if unit in units and number.isascii() and number.isdigit() else float("inf")
