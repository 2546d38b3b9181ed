"""`python -m tandem_router`: one router."""

import asyncio
import os
import re
import socket
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
from tandem_api.logs import LEVELS
from tandem_api.manifest import ManifestError
from tandem_virtual.registry import AlreadyRegistered

from tandem_router.access.options import access_of, access_options
from tandem_router.limits.options import limit_options, limits_of
from tandem_router.settings import Settings
from tandem_router.telemetry.logs import configure
from tandem_router.telemetry.measures import LATENCY_MS
from tandem_router.virtual.models import RouterModels
from tandem_router.virtual.settings import VirtualSettings

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)
_EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)


def _buckets(given: str) -> tuple[float, ...]:
    try:
        bounds = tuple(float(bound) for bound in given.split(","))
    except ValueError:
        raise click.BadParameter("expected numbers with commas between them: 10,50,100") from None
    if not all(0 < a < b < float("inf") for a, b in pairwise((*bounds, bounds[-1] + 1))):
        raise click.BadParameter("the bounds must be above 0, finite, and grow from each to the next")
    return bounds


def _base_url(given: str) -> str:
    if given and re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", given) is None:
        raise click.BadParameter("expected http://host:port or https://host:port, and no key or password in it")
    return given


@click.command(context_settings={"auto_envvar_prefix": "TANDEM_ROUTER", "show_default": True, "max_content_width": 100})
@click.option(
    "--topology",
    type=_FILE,
    help="JSON file that says what there is to serve. Replaced whole "
    "(written beside it, then renamed), it takes effect within 250 ms; calls of workers that left finish.",
)
@click.option(
    "--kubernetes",
    is_flag=True,
    help="Learn from a Kubernetes API server what there is to serve, in place of --topology: as a pod by its service "
    "account, else by KUBECONFIG or ~/.kube/config.",
)
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    metavar="NAME",
    help="With --kubernetes: serve the InferenceServices of this namespace alone. May be given several times.",
    show_default="all namespaces",
)
@click.option("--host", default="127.0.0.1", help="Address to listen at.")
@click.option("--port", default=8080, type=click.IntRange(0, 65535), help="Port to listen at; 0: any that is free.")
@click.option(
    "--name",
    envvar=["TANDEM_ROUTER_NAME", "POD_NAME"],
    default=socket.gethostname,
    show_default="the host's name",
    help="How workers call this router.",
)
@click.option("--tls", type=_FOLDER, help="Folder with tls.crt, tls.key and ca.crt: mutual TLS to the workers.")
@click.option(
    "--id-key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Key of the response ids. Replicas that share it can read each other's. Without: a random one.",
)
@click.option(
    "--lame-duck",
    default=0.0,
    type=click.FloatRange(0),
    help="Seconds after SIGTERM in which requests are still taken, though the router is not ready any more: as long as "
    "load balancers may take to hear of that.",
)
@click.option("--grace", default=60.0, type=click.FloatRange(0), help="Seconds that open streams get after that.")
@click.option("--max-body-bytes", default=10 * 2**20, type=click.IntRange(1), help="Larger requests get a 413.")
@click.option(
    "--max-unsent-bytes",
    default=2**20,
    type=click.IntRange(1),
    help="A client that leaves more of its stream unread is cut off, so that it stalls nobody.",
)
@click.option(
    "--latency-buckets-ms",
    default=",".join(f"{bound:g}" for bound in LATENCY_MS),
    callback=lambda _context, _option, given: _buckets(given),
    help="Upper bounds of the buckets of the metric request_latency_ms, in milliseconds, growing.",
)
@click.option(
    "--server-timing",
    is_flag=True,
    help="Tell clients in Server-Timing how long prefill and the KV transfer "
    "took, how many bytes moved, and from which worker.",
)
@click.option(
    "--otlp-endpoint",
    envvar="OTEL_EXPORTER_OTLP_ENDPOINT",
    default="",
    show_default="no traces",
    help="Where OpenTelemetry traces go, e.g. http://collector:4317.",
)
@access_options
@limit_options
@click.option(
    "--registry-url",
    default="",
    show_default="no registry",
    callback=lambda _context, _option, given: _base_url(given),
    help="The model registry, to which /admin/* is relayed, e.g. http://tandem-registry:8090.",
)
@click.option("--virtual/--no-virtual", default=True, help="Serve virtual models behind /virtual.")
@click.option("--virtual-failures", is_flag=True, help="Among them, models that fail on purpose.")
@click.option("--virtual-listed", is_flag=True, help="They are in /v1, too, after the models that are served for real.")
@click.option("--virtual-models", type=_EXISTING, help="YAML file with more virtual models.")
@click.option("--virtual-alone", is_flag=True, help="Serve virtual models and nothing else.")
@click.option(
    "--replicas",
    default=1,
    type=click.IntRange(1),
    help="Routers that share the traffic. Several can't be changed through one of them.",
)
@click.option("--log-level", default="info", type=click.Choice(list(LEVELS)), help="Logs are JSON lines on stderr.")
def main(id_key_file: Path | None, kubernetes: bool, **given: Any) -> None:
    """Serve the OpenAI and Anthropic APIs in front of prefill and decode workers.

    The paths: POST /v1/chat/completions, /v1/completions, /v1/responses, /v1/messages,
    /v1/messages/count_tokens, /v1/embeddings, /v1/feedback; GET /v1/models, /v1/models/{id},
    /healthz, /readyz, /metrics, /openapi.json, /openapi.yaml, /tandem/v1/status.
    /admin/* goes to the model registry (--registry-url).
    Virtual models are behind /virtual/v1, /virtual/openai/v1 and /virtual/anthropic/v1.

    Every option can be given as an environment variable, too: TANDEM_ROUTER_PORT=8080.
    """
    virtual = VirtualSettings(
        alone=given.pop("virtual_alone"),
        enabled=given.pop("virtual"),
        failures=given.pop("virtual_failures"),
        listed=given.pop("virtual_listed"),
        models=given.pop("virtual_models"),
        replicas=given.pop("replicas"),
    )
    if [kubernetes, given["topology"] is not None, virtual.alone].count(True) != 1:
        raise click.UsageError(
            "exactly one of --virtual-alone, --topology FILE and --kubernetes says what there is to serve"
        )
    try:
        RouterModels(virtual, time.time, os.urandom)
    except (ManifestError, AlreadyRegistered) as error:
        raise click.ClickException(f"virtual models: {error}") from None
    if given["namespaces"] and not kubernetes:
        raise click.UsageError("--namespace goes with --kubernetes")
    access, limits = access_of(given), limits_of(given)
    settings = Settings(
        id_key=id_key_file.read_bytes() if id_key_file else b"", virtual=virtual, access=access, limits=limits, **given
    )
    configure(settings.log_level)
    import gc

    import uvloop

    from tandem_router.discovery import NoCluster
    from tandem_router.serving import serve

    # What the imports made stays for good, and requests leave no cycles: what others leave can wait.
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(serve(settings))
        except NoCluster as missing:
            raise click.UsageError(f"--kubernetes: {missing}") from missing


if __name__ == "__main__":
    main()
