"""From the options of `up` and `demo` to a plan, with the checks that are cheaper before a start than after it."""

import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from tandem_operator.planning import ServicePlan, plan_services, rehearse

from tandem_cli.extras import need
from tandem_cli.failing import Failed
from tandem_cli.manifests import load_files
from tandem_cli.platform.failing import VLLM_HINT

DEMO = Path(__file__).with_name("demo.yaml")


def make_plans(files: Sequence[Path], *, virtual: bool) -> tuple[ServicePlan, ...]:
    """The plan for these manifests, or for the demo's where there are none.

    Raises:
        Failed: a manifest is wrong, or its engine or what runs it is not installed.
    """
    services = load_files(files or [DEMO])
    plans = plan_services([rehearse(service) for service in services] if virtual else services)
    types = {revision.effective.engine.type for service in plans for revision in service.revisions}
    if "vllm" in types and find_spec("vllm") is None:
        raise Failed("vLLM is not installed in this Python environment", VLLM_HINT)
    need("router", "worker")
    return plans


def default_cache(environment: Mapping[str, str]) -> Path:
    """Where fetched models stay: TANDEM_CACHE, else tandem/models in the user's cache folder."""
    if given := environment.get("TANDEM_CACHE"):
        return Path(given)
    base = environment.get("XDG_CACHE_HOME") or os.path.join(environment.get("HOME", "/"), ".cache")
    return Path(base) / "tandem" / "models"
