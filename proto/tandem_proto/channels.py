"""The one seam through which every gRPC channel and server of Tandem gets its credentials.

Plain where no `Tls` is given (loopback, or a mesh that encrypts); mutual TLS where one is. Both sides read the files
for each connection, so that a rotated Secret serves the next one; only a channel of gRPC's reads them once.
"""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import grpc.aio

from tandem_proto.protocol import CHANNEL_OPTIONS

Options = Sequence[tuple[str, int | str]]

SERVER_NAME: Final = "tandem-worker"
"""The DNS name that each worker's certificate is made out to: pods are called by addresses, which it can't know."""


@dataclass(frozen=True, slots=True)
class Tls:
    """A folder as a `kubernetes.io/tls` Secret mounts it: `tls.crt`, `tls.key` and `ca.crt`, PEM."""

    folder: Path
    server_name: str = SERVER_NAME

    def client(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self._read("ca.crt"), self._read("tls.key"), self._read("tls.crt"))

    def context(self) -> ssl.SSLContext:
        """The same for a client of sockets."""
        context = ssl.create_default_context(cafile=self.folder / "ca.crt")
        context.load_cert_chain(self.folder / "tls.crt", self.folder / "tls.key")
        context.set_alpn_protocols(["h2"])
        return context

    def server_context(self) -> ssl.SSLContext:
        """For a server of sockets."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.folder / "ca.crt")
        context.load_cert_chain(self.folder / "tls.crt", self.folder / "tls.key")
        context.verify_mode = ssl.CERT_REQUIRED
        context.set_alpn_protocols(["h2"])
        return context

    def server(self) -> grpc.ServerCredentials:
        """For a server of gRPC's, which reads the files for each connection; while it can't, it shows the former ones.

        Raises:
            OSError: they can't be read now.
        """
        return grpc.dynamic_ssl_server_credentials(self._shown(), self._shown, require_client_authentication=True)

    def _shown(self) -> grpc.ServerCertificateConfiguration:
        pair = (self._read("tls.key"), self._read("tls.crt"))
        return grpc.ssl_server_certificate_configuration([pair], self._read("ca.crt"))

    def _read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


def aio_channel(address: str, tls: Tls | None, options: Options = ()) -> grpc.aio.Channel:
    """A channel of asyncio to `address` (host:port)."""
    merged = [*CHANNEL_OPTIONS, *options]
    if tls is None:
        return grpc.aio.insecure_channel(address, options=merged)
    return grpc.aio.secure_channel(address, tls.client(), options=[*merged, *_named(tls)])


def sync_channel(address: str, tls: Tls | None, options: Options = ()) -> grpc.Channel:
    """A channel for threads, for use inside an engine's process."""
    merged = [*CHANNEL_OPTIONS, *options]
    if tls is None:
        return grpc.insecure_channel(address, options=merged)
    return grpc.secure_channel(address, tls.client(), options=[*merged, *_named(tls)])


def _named(tls: Tls) -> Options:
    return (("grpc.ssl_target_name_override", tls.server_name),)


def listen(server: grpc.aio.Server | grpc.Server, address: str, tls: Tls | None) -> int:
    """Binds `server` to `address` and returns the port.

    Raises:
        RuntimeError: the address can't be bound.
    """
    if tls is None:
        return server.add_insecure_port(address)
    return server.add_secure_port(address, tls.server())
