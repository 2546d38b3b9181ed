"""A real control plane: etcd, API server, controller-manager and scheduler, in a network of their own.

Because the network is its own, every run has the same ports, and any number of runs go side by side. etcd keeps its
data in a tmpfs that only it sees.
"""

import datetime
import os
import signal
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import yaml

from tests.cluster.network import CLUSTER_ADDRESS, Network, cluster_network
from tests.cluster.pki import Authority, Pair, signing_key
from tests.cluster.programs import BackgroundProgram
from tests.cluster.tools import Tools

_API_PORT: Final = 6443
_ETCD: Final = "http://127.0.0.1:2379"
_ETCD_PEERS: Final = "http://127.0.0.1:2380"
_URL: Final = f"https://{CLUSTER_ADDRESS}:{_API_PORT}"
_START_SECONDS: Final = 90


class ControlPlane:
    """The programs of one control plane; made and ended by `running_control_plane`."""

    def __init__(self, tools: Tools, folder: Path, network: Network) -> None:
        self.network = network
        self._tools = tools
        self._folder = folder
        self._pki = folder / "pki"
        self._pki.mkdir(parents=True)
        now = datetime.datetime.now(datetime.UTC)
        self._authority = Authority(self._pki, "cluster", now)
        self._front_proxies = Authority(self._pki, "front-proxies", now)
        names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
        self._server = self._authority.server(
            "apiserver", [*names, "localhost", "127.0.0.1", CLUSTER_ADDRESS, "10.96.0.1"]
        )
        self._to_kubelets = self._authority.client("kubelet-client", ["system:masters"])
        self._proxy = self._front_proxies.client("front-proxy")
        self._tokens = signing_key(self._pki / "service-accounts.key")
        self.kubeconfig = self._make_kubeconfig("admin", ["system:masters"])
        self.kubelet_identity = self._authority.server("node", [CLUSTER_ADDRESS])
        self._programs: dict[str, BackgroundProgram] = {}

    @property
    def folder(self) -> Path:
        """Of logs, certificates and kubeconfigs."""
        return self._folder

    def start(self) -> None:
        """Starts everything, and returns once a pod could be created."""
        self._start_etcd()
        self._start_api_server()
        self._await("/readyz", "kube-apiserver")
        # Not before: they give up where their roles are not there yet.
        self._start_controllers()
        self._start_scheduler()
        self._await("/api/v1/namespaces/default/serviceaccounts/default", "kube-controller-manager")

    def restart_api_server(self, number: int) -> None:
        """Ends the API server by a signal and starts it again; returns once it is ready."""
        self._programs["kube-apiserver"].stop(number)
        self._start_api_server()
        self._await("/readyz", "kube-apiserver")

    def stop(self) -> None:
        """Ends all programs at once: none has anything to save."""
        for program in reversed(self._programs.values()):
            program.stop(signal.SIGKILL)

    def _start_etcd(self) -> None:
        data = self._folder / "etcd"
        data.mkdir()
        command = self._tools.etcd(data, _ETCD, _ETCD_PEERS)
        in_memory = f'mount -t tmpfs -o mode=700 etcd {data} && exec "$@"'
        self._launch("etcd", ["unshare", "--mount", "sh", "-c", in_memory, "sh", *command])

    def _start_api_server(self) -> None:
        authority, front_proxies = self._authority.pair.certificate, self._front_proxies.pair.certificate
        self._launch(
            "kube-apiserver",
            [
                *self._tools.component("kube-apiserver"),
                f"--etcd-servers={_ETCD}",
                *(f"--bind-address={CLUSTER_ADDRESS}", f"--advertise-address={CLUSTER_ADDRESS}"),
                *(f"--secure-port={_API_PORT}", "--service-cluster-ip-range=10.96.0.0/16"),
                *("--authorization-mode=Node,RBAC", "--allow-privileged=true", "--profiling=false"),
                *(f"--client-ca-file={authority}", *_tls(self._server)),
                "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
                f"--service-account-signing-key-file={self._tokens}",
                f"--service-account-key-file={self._tokens}",
                f"--kubelet-client-certificate={self._to_kubelets.certificate}",
                f"--kubelet-client-key={self._to_kubelets.key}",
                # For APIServices: the external metrics of tests and charts.
                f"--requestheader-client-ca-file={front_proxies}",
                "--requestheader-allowed-names=front-proxy",
                "--requestheader-username-headers=X-Remote-User",
                "--requestheader-group-headers=X-Remote-Group",
                "--requestheader-extra-headers-prefix=X-Remote-Extra-",
                f"--proxy-client-cert-file={self._proxy.certificate}",
                f"--proxy-client-key-file={self._proxy.key}",
                "--enable-aggregator-routing=true",
            ],
        )

    def _start_controllers(self) -> None:
        authority = self._authority.pair
        self._launch(
            "kube-controller-manager",
            [
                *self._tools.component("kube-controller-manager"),
                *self._as_user("system:kube-controller-manager"),
                "--use-service-account-credentials",
                f"--service-account-private-key-file={self._tokens}",
                f"--root-ca-file={authority.certificate}",
                f"--cluster-signing-cert-file={authority.certificate}",
                f"--cluster-signing-key-file={authority.key}",
                "--allocate-node-cidrs=false",
                # It hears nothing of nodes while the API server is away, or a machine stands still.
                "--node-monitor-grace-period=10m",
                # Tests wait for these. By default it asks the API server twenty times a second, whoever waits.
                "--kube-api-qps=200",
                "--kube-api-burst=400",
                "--horizontal-pod-autoscaler-sync-period=1s",
                # Of a load that pauses for a moment no autoscaler is to make anything.
                "--horizontal-pod-autoscaler-downscale-stabilization=60s",
                "--horizontal-pod-autoscaler-initial-readiness-delay=1s",
            ],
        )

    def _start_scheduler(self) -> None:
        self._launch(
            "kube-scheduler", [*self._tools.component("kube-scheduler"), *self._as_user("system:kube-scheduler")]
        )

    def _as_user(self, user: str) -> list[str]:
        config = self._make_kubeconfig(user, [])
        return [
            *(
                f"--kubeconfig={config}",
                f"--authentication-kubeconfig={config}",
                f"--authorization-kubeconfig={config}",
            ),
            *("--bind-address=127.0.0.1", "--leader-elect=false", "--profiling=false"),
        ]

    def _make_kubeconfig(self, user: str, groups: list[str]) -> Path:
        pair = self._authority.client(user, groups)
        cluster = {"server": _URL, "certificate-authority": str(self._authority.pair.certificate)}
        access = {"client-certificate": str(pair.certificate), "client-key": str(pair.key)}
        path = self._folder / f"{user.replace(':', '-')}.kubeconfig"
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "test", "cluster": cluster}],
                    "users": [{"name": user, "user": access}],
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
                    "current-context": "test",
                }
            )
        )
        return path

    def _launch(self, name: str, argv: list[str]) -> None:
        with self.network.entered():
            self._programs[name] = BackgroundProgram(argv, self._folder / f"{name}.log", os.environ)

    def _await(self, path: str, name: str) -> None:
        admin = Pair(self._pki / "admin.crt", self._pki / "admin.key")
        context = ssl.create_default_context(cafile=str(self._authority.pair.certificate))
        context.load_cert_chain(admin.certificate, admin.key)
        deadline = time.monotonic() + _START_SECONDS
        while True:
            for program in self._programs.values():
                program.check()
            try:
                with self.network.entered(), urllib.request.urlopen(_URL + path, timeout=5, context=context):
                    return
            except (urllib.error.URLError, OSError) as error:
                if time.monotonic() > deadline:
                    log = self._programs[name].log
                    raise TimeoutError(f"{path} not there after {_START_SECONDS} s ({error}); see {log}") from error
            time.sleep(0.05)


def _tls(pair: Pair) -> tuple[str, str]:
    return f"--tls-cert-file={pair.certificate}", f"--tls-private-key-file={pair.key}"


@contextmanager
def running_control_plane(tools: Tools, folder: Path) -> Iterator[ControlPlane]:
    """A control plane for as long as the block lasts. Logs, certificates and kubeconfigs stay in `folder`."""
    with ExitStack() as stack:
        network = cluster_network()
        stack.callback(network.close)
        plane = ControlPlane(tools, folder, network)
        stack.callback(plane.stop)
        plane.start()
        yield plane
