"""The way to the API server: as a pod by its service account, for people by KUBECONFIG or ~/.kube/config.

lightkube reads these and makes an HTTP client of them; it knows tokens of files, client certificates and the programs
that cloud providers have for logging in.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import httpx2
from lightkube.config.client_adapter import AsyncClient, ConnectionParams
from lightkube.config.kubeconfig import KubeConfig
from lightkube.core.exceptions import ConfigError

from tandem_router.discovery import NoCluster

ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def connector(account: Path = ACCOUNT) -> Callable[[], httpx2.AsyncClient]:
    """Makes clients of the API server, each by the files as they are at that moment.

    `account` is the folder that a pod finds its service account in.

    Raises:
        NoCluster: already now.
    """
    connect = partial(_client, account)
    connect()
    return connect


def _client(account: Path) -> httpx2.AsyncClient:
    """A client whose URLs are paths.

    Raises:
        NoCluster: no service account's files, and no kubeconfig with a context and a user.
    """
    try:
        config = KubeConfig.from_env(service_account=account).get()
        if config is None or config.user is None:
            raise NoCluster("the kubeconfig's current context names no user")
        return AsyncClient(config, ConnectionParams(timeout=httpx2.Timeout(30.0, connect=5.0)))
    except (ConfigError, KeyError, OSError) as error:
        raise NoCluster(f"no service account and no usable kubeconfig (KUBECONFIG, ~/.kube/config): {error}") from error
