"""The way to the API server: as a pod by its service account, for people by KUBECONFIG or ~/.kube/config.

lightkube reads these and makes an HTTP client of them; it knows tokens of files, client certificates and the programs
that cloud providers have for logging in.
"""

from collections.abc import Callable

import httpx2
from lightkube.config.client_adapter import AsyncClient, ConnectionParams
from lightkube.config.kubeconfig import KubeConfig
from lightkube.core.exceptions import ConfigError

from tandem_router.discovery import NoCluster


def connector() -> Callable[[], httpx2.AsyncClient]:
    """Makes clients of the API server, each by the files as they are at that moment.

    Raises:
        NoCluster: already now.
    """
    client()
    return client


def client() -> httpx2.AsyncClient:
    """A client whose URLs are paths.

    Raises:
        NoCluster: no service account's files, and no kubeconfig with a context and a user.
    """
    try:
        config = KubeConfig.from_env().get()
        if config is None or config.user is None:
            raise NoCluster("the kubeconfig's current context names no user")
        return AsyncClient(config, ConnectionParams(timeout=httpx2.Timeout(30.0, connect=5.0)))
    except (ConfigError, KeyError, OSError) as error:
        raise NoCluster(f"no service account and no usable kubeconfig (KUBECONFIG, ~/.kube/config): {error}") from error
