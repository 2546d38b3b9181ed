"""Pods for the runner's tests, and a folder of the machine for them."""

import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tandem_cli.runner import Backoff, Node, Pod, PodTemplate, Scratch, loopback_addresses, run_pod, scratch_folder

Run = Callable[..., AbstractAsyncContextManager[Pod]]


@pytest.fixture
async def scratch(tmp_path: Path) -> AsyncIterator[Scratch]:
    async with scratch_folder(parent=tmp_path) as made:
        yield made


@pytest.fixture
def node() -> Node:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return Node(environment={"PATH": path, "PYTHONUNBUFFERED": "1"}, backoff=Backoff(0.01, 0.1, 60), eager=0.02)


@pytest.fixture
def run(scratch: Scratch, node: Node) -> Run:
    """Runs a pod, given its spec and what differs from the defaults."""

    def start(spec: Mapping[str, Any], **given: Any) -> AbstractAsyncContextManager[Pod]:
        template = PodTemplate.model_validate({"metadata": given.pop("metadata", {}), "spec": spec})
        address = given.pop("address", None) or next(loopback_addresses(Random(), [9000]))
        return run_pod(
            template.named("pod", "space"),
            address=address,
            node=given.pop("node", node),
            scratch=given.pop("scratch", scratch),
            **given,
        )

    return start
