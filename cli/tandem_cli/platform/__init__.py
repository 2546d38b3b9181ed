"""The local platform: the operator's plan, run as processes of this machine, with a router in front."""

from tandem_cli.platform.errors import PlatformError
from tandem_cli.platform.gpus import parse_gpus
from tandem_cli.platform.platform import Platform, run_platform
from tandem_cli.platform.registry import registry_installed
from tandem_cli.platform.routing import ROUTER
from tandem_cli.platform.settings import PlatformSettings

__all__ = [
    "ROUTER",
    "Platform",
    "PlatformError",
    "PlatformSettings",
    "parse_gpus",
    "registry_installed",
    "run_platform",
]
