"""Runs Kubernetes pods as processes of this machine, without root: the local platform's node, and the tests'."""

from tandem_cli.runner.addresses import loopback_addresses
from tandem_cli.runner.command import Command, Mount, Program, Sandbox, map_paths
from tandem_cli.runner.container import Backoff
from tandem_cli.runner.errors import PodConfigError
from tandem_cli.runner.objects import FixedObjects, Objects
from tandem_cli.runner.pod import Node, Pod, run_pod
from tandem_cli.runner.scratch import Scratch, scratch_folder
from tandem_cli.runner.state import ContainerState, PodState
from tandem_cli.runner.tail import last_lines, readable
from tandem_cli.runner.template import PodTemplate

__all__ = [
    "Backoff",
    "Command",
    "ContainerState",
    "FixedObjects",
    "Mount",
    "Node",
    "Objects",
    "Pod",
    "PodConfigError",
    "PodState",
    "PodTemplate",
    "Program",
    "Sandbox",
    "Scratch",
    "last_lines",
    "loopback_addresses",
    "map_paths",
    "readable",
    "run_pod",
    "scratch_folder",
]
