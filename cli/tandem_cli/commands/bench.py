"""`tandem bench`: how fast a server answers, as many clients see it."""

import json
import time
from pathlib import Path
from typing import Any, Final

import click
import uvloop

from tandem_cli.benchmark.arrivals import read_trace
from tandem_cli.benchmark.figures import Slo, figures
from tandem_cli.benchmark.measuring import Settings, measure
from tandem_cli.benchmark.page import as_page
from tandem_cli.benchmark.prompts import read_dataset
from tandem_cli.benchmark.protocols import APIS
from tandem_cli.benchmark.reporting import Report, as_json, as_table
from tandem_cli.failing import Failed
from tandem_cli.keys import key_of, key_option

_EXAMPLES: Final = """\b
Examples:
  tandem bench http://127.0.0.1:8080 --concurrency 16 --requests 500
  tandem bench http://127.0.0.1:8080 --rate 20 --duration 60 --slo ttft=0.5,tpot=0.05
  tandem bench http://127.0.0.1:8080/v1/messages --model llama --trace mooncake.jsonl --html report.html
"""
_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
_DEFAULT_REQUESTS: Final = 100


def _slo(_context: click.Context, _option: click.Parameter, given: str | None) -> Slo | None:
    if given is None:
        return None
    bounds: dict[str, float] = {}
    for part in given.split(","):
        name, equals, value = part.strip().partition("=")
        try:
            bounds[name] = float(value)
        except ValueError:
            equals = ""
        if not equals or name not in ("ttft", "tpot", "e2e") or not bounds[name] > 0:
            raise click.BadParameter(
                f"{part!r}: expected ttft, tpot or e2e, and seconds above 0, as in ttft=0.5,tpot=0.05"
            )
    return Slo(**bounds)


def _extra(_context: click.Context, _option: click.Parameter, given: str | None) -> dict[str, Any]:
    try:
        read = json.loads(given or "{}")
    except ValueError:
        read = None
    if not isinstance(read, dict):
        raise click.BadParameter('expected a JSON object, as in {"ignore_eos": true}')
    return read


@click.command("bench", epilog=_EXAMPLES)
@click.argument("url")
@key_option
@click.option("--api", type=click.Choice(list(APIS)), help="Default: by the URL's path, else chat.")
@click.option("--model", help="Whom to ask; default: the only one that is served.")
@click.option("--concurrency", type=click.IntRange(1), help="Closed loop of so many clients; the limit of an open one.")
@click.option("--ramp-up", type=click.FloatRange(0), default=0, help="Closed loop: seconds until all clients ask.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Open loop: requests per second, Poisson.")
@click.option("--trace", type=_FILE, help="Open loop: JSON lines with timestamp (ms), input_length, output_length.")
@click.option("--requests", type=click.IntRange(1), help="So many; 100 where nothing else ends it.")
@click.option("--duration", type=click.FloatRange(0, min_open=True), help="Begin requests for so many seconds.")
@click.option("--warm-up", type=click.IntRange(0), default=0, show_default=True, help="Requests before, not counted.")
@click.option("--stream/--no-stream", default=True, show_default=True, help="Ask for streams.")
@click.option("--input-tokens", type=click.IntRange(1), default=256, show_default=True, help="Words of a drawn prompt.")
@click.option("--output-tokens", type=click.IntRange(1), default=64, show_default=True, help="max_tokens of an answer.")
@click.option("--dataset", type=_FILE, help="JSON lines with prompt or messages, and max_tokens.")
@click.option("--body", callback=_extra, metavar="JSON", help='Added to each request: {"ignore_eos": true}.')
@click.option("--slo", callback=_slo, help="Bounds in seconds for goodput: ttft=0.5,tpot=0.05,e2e=10.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=600,
    show_default=True,
    help="Of one request, in seconds.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed, the same prompts and arrivals.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="json: for scripts.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write a report with plots here.")
def command(
    url: str,
    key_file: Path | None,
    trace: Path | None,
    dataset: Path | None,
    body: dict[str, Any],
    slo: Slo | None,
    output: str,
    html: Path | None,
    **given: Any,
) -> None:
    """Measure how fast the OpenAI or Anthropic server at URL answers.

    A closed loop (--concurrency) asks again when an answer is there; an open one (--rate, --trace) asks by a schedule,
    and latencies count from when a request was due. TTFT is to the first content, ITL between two pieces of it, TPOT
    the time of a token after the first. Ctrl-C ends it and reports what was done.
    """
    if given["rate"] is not None and trace is not None:
        raise click.UsageError("--rate and --trace both say when requests are due: give one")
    if slo is not None and not given["stream"] and (slo.ttft or slo.tpot):
        raise click.UsageError("without a stream there is no TTFT and no TPOT: with --no-stream, --slo knows e2e alone")
    if given["requests"] is None and given["duration"] is None and trace is None:
        given["requests"] = _DEFAULT_REQUESTS
    settings = Settings(
        url=url,
        key=key_of(key_file),
        trace=read_trace(trace) if trace else (),
        dataset=read_dataset(dataset, given["output_tokens"]) if dataset else (),
        extra=body,
        **given,
    )
    measured = uvloop.run(measure(settings, time.perf_counter))
    samples = measured.course.samples
    shown = {**given, "url": url, "model": measured.model, "trace": trace, "dataset": dataset, "body": body}
    report = Report(
        settings={name: str(value) if isinstance(value, Path) else value for name, value in shown.items()},
        figures=figures(samples, slo),
        slo=slo,
        interrupted=measured.interrupted,
    )
    if html is not None:
        html.write_text(as_page(report, samples))
    click.echo(as_json(report) if output == "json" else as_table(report))
    if not report.figures.succeeded:
        kinds = ", ".join(report.figures.errors) or "none was sent"
        raise Failed(f"no request was answered: {kinds}", "ask once by hand: `tandem chat`, or curl")
