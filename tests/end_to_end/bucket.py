"""An S3 server beside the cluster, with one bucket, for pods."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import httpx
from moto.server import ThreadedMotoServer

from tests.cluster.cluster import Cluster
from tests.cluster.network import CLUSTER_ADDRESS

NAME: Final = "tandem-models"
_URL: Final = f"http://{CLUSTER_ADDRESS}:15000"
CREDENTIALS: Final = {
    "AWS_ACCESS_KEY_ID": "key-of-a-user",
    "AWS_SECRET_ACCESS_KEY": "secret-of-a-user",
    "AWS_REGION": "us-east-1",
    "AWS_ENDPOINT_URL": _URL,
}
"""What pods are told of it."""


@contextmanager
def bucket(cluster: Cluster) -> Iterator[None]:
    """It is there while the block lasts."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address=CLUSTER_ADDRESS, port=15000, verbose=False)
    with cluster.entered():
        server.start()
        made = httpx.put(f"{_URL}/{NAME}", trust_env=False, timeout=30)
    try:
        assert made.is_success, made.text
        yield
    finally:
        server.stop()
