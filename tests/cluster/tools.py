"""Where the programs of a control plane come from on this machine.

- `KUBEBUILDER_ASSETS`: a folder with etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubectl and helm
  (the last two may be on the PATH instead).
- `../shared/bin/kube-tools` beside the checkout: prints a folder that holds all of them in one program, kubeall.
- `TANDEM_TEST_KUBECONFIG` needs none of these: kubectl and helm from the PATH.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
_KUBE_TOOLS = CHECKOUT.parent / "shared" / "bin" / "kube-tools"
_COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


class ToolsMissing(Exception):
    """A cluster can't be had on this machine; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Clients:
    """What talks to a cluster."""

    kubectl: str
    helm: str


@dataclass(frozen=True, slots=True)
class Tools:
    """The programs in `folder`: one for each component, or all of them in `kubeall`."""

    folder: Path
    clients: Clients

    def etcd(self, data: Path, clients: str, peers: str) -> list[str]:
        """The command that keeps its data in a folder and listens on two URLs."""
        if self._all_in_one:
            return [str(self.folder / "kubeall"), "etcd", str(data), clients, peers]
        return [
            str(self.folder / "etcd"),
            f"--data-dir={data}",
            *(f"--listen-client-urls={clients}", f"--advertise-client-urls={clients}"),
            *(f"--listen-peer-urls={peers}", f"--initial-advertise-peer-urls={peers}"),
            f"--initial-cluster=default={peers}",
            "--unsafe-no-fsync",
        ]

    def component(self, name: str) -> list[str]:
        """The beginning of the command of a component of Kubernetes; flags follow."""
        return [str(self.folder / "kubeall"), name] if self._all_in_one else [str(self.folder / name)]

    @property
    def _all_in_one(self) -> bool:
        return (self.folder / "kubeall").exists()


def find_tools(env: Mapping[str, str]) -> Tools:
    """The programs of this machine. Raises `ToolsMissing`."""
    folder = env.get("KUBEBUILDER_ASSETS")
    if folder:
        missing = [name for name in _COMPONENTS if not (Path(folder) / name).exists()]
        if missing:
            raise ToolsMissing(f"KUBEBUILDER_ASSETS is {folder}, which lacks {', '.join(missing)}")
        return Tools(Path(folder), find_clients(env, Path(folder)))
    if not _KUBE_TOOLS.exists():
        raise ToolsMissing(
            "no control plane: name a cluster in TANDEM_TEST_KUBECONFIG, "
            f"or in KUBEBUILDER_ASSETS a folder with {', '.join(_COMPONENTS)}"
        )
    unpacked = subprocess.run([_KUBE_TOOLS], capture_output=True, text=True, timeout=300, check=False)
    if unpacked.returncode:
        raise ToolsMissing(f"{_KUBE_TOOLS} failed: {unpacked.stderr.strip()[-400:]}")
    cache = Path(unpacked.stdout.strip())
    return Tools(cache, find_clients(env, cache))


def find_clients(env: Mapping[str, str], folder: Path | None = None) -> Clients:
    """Kubectl and helm, of a folder or of the PATH. Raises `ToolsMissing`."""
    path = os.pathsep.join([*([str(folder)] if folder else []), env.get("PATH", os.defpath)])
    kubectl, helm = shutil.which("kubectl", path=path), shutil.which("helm", path=path)
    if kubectl is None or helm is None:
        raise ToolsMissing("kubectl and helm have to be on the PATH, or in the folder that KUBEBUILDER_ASSETS names")
    return Clients(kubectl, helm)
