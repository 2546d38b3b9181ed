"""Network namespaces: a cluster's own network, and how a test comes into it.

A namespace belongs to a thread, and to whatever that thread starts; a socket stays in the namespace that it was made
in. So a test enters the cluster's network for a while (`entered`) without a process of its own, and the rest of the
test run notices nothing. Nothing of a namespace is on the machine's disk: it is gone with its last process.

Threads keep the namespace that they were started in: clients with threads that outlive a test (grpc's) belong into a
program of their own, started inside `entered`.
"""

import ctypes
import os
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

CLUSTER_ADDRESS: Final = "10.77.0.1"
"""Of the cluster's own namespace: API server, Services' relays."""
BRIDGE: Final = "pods"
_BRIDGE_MAC: Final = "02:00:0a:4d:00:01"
"""Its own: otherwise it is that of one of the pods, changes as they come and go, and the others lose their way."""
_SERVICE_NETWORK: Final = "10.96.0.0/16"
_CLONE_NEWNET: Final = 0x40000000
MTU: Final = 65_000


@dataclass(frozen=True, slots=True)
class Network:
    """A network namespace, held open by a descriptor of this process."""

    descriptor: int

    @property
    def path(self) -> str:
        """Names it for other processes, as long as this one lives."""
        return f"/proc/{os.getpid()}/fd/{self.descriptor}"

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread's sockets, and the programs that it starts, are in the network as long as the block lasts."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _check(_libc().setns(self.descriptor, _CLONE_NEWNET), "setns")
            try:
                yield
            finally:
                _check(_libc().setns(home, _CLONE_NEWNET), "setns")
        finally:
            os.close(home)

    def close(self) -> None:
        """Gives the descriptor back; the network lives on as long as processes are in it."""
        os.close(self.descriptor)


def may_make_networks() -> bool:
    """Whether this process may go from network to network: as root, here or in a user namespace with its own."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        return bool(_libc().setns(home, _CLONE_NEWNET) == 0)
    finally:
        os.close(home)


def has_user(number: int) -> bool:
    """Whether a process here can become this user: in a user namespace some or all are missing."""
    with open("/proc/self/uid_map") as ranges:
        spans = [tuple(map(int, line.split())) for line in ranges]
    return any(first <= number < first + count for first, _, count in spans)


def empty_network() -> Network:
    """A namespace with nothing in it but a loopback device that is down."""

    def make() -> int:
        _check(_libc().unshare(_CLONE_NEWNET), "unshare")
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY)

    with ThreadPoolExecutor(1) as thread:  # its thread goes, and leaves the namespace to the descriptor
        return Network(thread.submit(make).result())


def cluster_network() -> Network:
    """A network in which pods can be bridged (10.77.0.0/16) and each ClusterIP (10.96.0.0/16) can be listened on."""
    network = empty_network()
    with network.entered():
        ip(
            [
                "link set lo up",
                f"link add {BRIDGE} address {_BRIDGE_MAC} mtu {MTU} type bridge",
                f"address add {CLUSTER_ADDRESS}/16 dev {BRIDGE}",
                f"link set {BRIDGE} up",
                f"route add local {_SERVICE_NETWORK} dev lo",
            ]
        )
    return network


def join_bridge(pod: Network, cluster: Network, address: str, link: str) -> None:
    """Wires a pod's empty namespace to the cluster's bridge: eth0 there, `link` here.

    Args:
        pod: what `empty_network` made.
        cluster: what `cluster_network` made.
        address: of the pod, in 10.77.0.0/16.
        link: a name that no other pod's link has; at most 15 characters.
    """
    with pod.entered():
        ip(
            [
                "link set lo up",
                f"link add eth0 mtu {MTU} type veth peer name {link} mtu {MTU} netns {cluster.path}",
                f"address add {address}/16 dev eth0",
                "link set eth0 up",
                f"route add default via {CLUSTER_ADDRESS}",
            ]
        )
    with cluster.entered():
        ip([f"link set {link} master {BRIDGE} up"])


def ip(commands: Sequence[str]) -> None:
    """Runs commands of ip(8) in this thread's namespace. Raises `CalledProcessError`."""
    subprocess.run(["ip", "-batch", "-"], input="\n".join(commands), text=True, check=True, timeout=30)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, call: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{call}: {os.strerror(ctypes.get_errno())}")
