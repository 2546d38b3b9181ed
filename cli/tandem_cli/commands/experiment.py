"""`tandem experiment`: how a challenger does beside its champion, and by hand what statistics would decide."""

import json
import subprocess
import time
from datetime import UTC, datetime
from typing import Any, Final

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text
from tandem_api.inference_service.status import ExperimentState
from tandem_operator.planning.experiments.conducting import ANNOTATION, COMMANDS, RECORD, record_name
from tandem_operator.planning.experiments.record import load, replay

from tandem_cli.failing import Failed

_REPLAY: Final = "replay"
_KUBECTL_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 2.0


@click.command("experiment", epilog="Example: tandem experiment llama --watch")
@click.argument("words", nargs=-1, required=True, metavar=f"[{'|'.join((_REPLAY, *COMMANDS))}] NAME")
@click.option("-n", "--namespace", help="The InferenceService's; default kubectl's.")
@click.option("-w", "--watch", is_flag=True, help="Go on showing it.")
def command(words: tuple[str, ...], namespace: str | None, watch: bool) -> None:
    """Show the experiment of the InferenceService NAME, decide it again from its evidence, or take it in hand.

    `replay` computes the decision from what is kept, and fails where that gives another one. `promote`, `abort`,
    `pause` and `resume` do what they say. All of it goes by kubectl and its current context.
    """
    action, name = _parsed(words)
    if action == _REPLAY:
        _replay(name, namespace)
    elif action:
        # The time tells a command from an equal one that a former experiment has obeyed.
        value = f"{ANNOTATION}={action} {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        _kubectl(namespace, "annotate", "--overwrite", "inferenceservice", name, value)
        click.echo(f"{action}: asked of {name}.")
    elif watch:
        with Live(_table(_state(name, namespace)), auto_refresh=False) as live:
            while True:
                time.sleep(_LOOK_SECONDS)
                live.update(_table(_state(name, namespace)), refresh=True)
    else:
        Console().print(_table(_state(name, namespace)))


def _parsed(words: tuple[str, ...]) -> tuple[str, str]:
    match words:
        case (name,):
            return "", name
        case (action, name) if action in (_REPLAY, *COMMANDS):
            return action, name
    raise click.UsageError(f"expected NAME, or one of {', '.join((_REPLAY, *COMMANDS))} and NAME")


def _replay(name: str, namespace: str | None) -> None:
    found = _get(namespace, "configmap", record_name(name))
    record = load((found.get("data") or {}).get(RECORD, ""))
    if record is None:
        raise Failed(f"ConfigMap {record_name(name)} holds no record that this release reads: see its key {RECORD}")
    computed = replay(record)
    Console().print(_table(computed))
    if computed != record.state:
        was, now = record.state, computed
        raise Failed(
            f"the record says {was.phase} ({was.reason}), its counts give {now.phase} ({now.reason}): it was changed "
            "by hand, or written by another release"
        )
    click.echo("The same decision, from the same counts.")


def _state(name: str, namespace: str | None) -> ExperimentState:
    status = _get(namespace, "inferenceservice", name).get("status") or {}
    if "experiment" not in status:
        raise Failed(f"{name} has no experiment: give it spec.experiment, see docs/experiments.md")
    return ExperimentState.model_validate(status["experiment"], extra="ignore")


def _get(namespace: str | None, kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_kubectl(namespace, "get", kind, name, "-o", "json"))
    return found


def _kubectl(namespace: str | None, *argv: str) -> str:
    where = ("-n", namespace) if namespace else ()
    try:
        done = subprocess.run(
            ("kubectl", *where, *argv), capture_output=True, text=True, timeout=_KUBECTL_SECONDS, check=False
        )
    except FileNotFoundError:
        raise Failed("kubectl is not on the PATH: `tandem experiment` asks the cluster through it") from None
    except subprocess.TimeoutExpired:
        raise Failed(f"kubectl did not answer within {_KUBECTL_SECONDS:g} s") from None
    if done.returncode:
        raise Failed(done.stderr.strip() or f"kubectl {argv[0]} failed")
    return done.stdout


def _table(state: ExperimentState) -> Table:
    """Rates are shares of bad outcomes; the interval is of their difference and holds at all times together."""
    table = Table(title=_title(state), title_justify="left", box=None, caption=_caption(state), caption_justify="left")
    for column in ("METRIC", state.champion, state.challenger, "DIFFERENCE", "E HARM", "E BENEFIT", "MORE"):
        table.add_column(column, justify="left" if column == "METRIC" else "right")
    for metric in state.metrics:
        table.add_row(
            metric.name,
            _percent(metric.champion),
            _percent(metric.challenger),
            f"{100 * metric.low:+.2f} to {100 * metric.high:+.2f} %",
            f"{metric.harm:.3g} of {state.harm_from:g}",
            f"{metric.benefit:.3g} of {state.benefit_from:g}",
            "" if metric.missing is None else f"{metric.missing:,}",
        )
    return table


def _title(state: ExperimentState) -> Text:
    step = f", step {state.step + 1} of {state.steps}" if state.steps > 1 else ""
    return Text(f"{state.phase} ({state.reason}): {state.challenger} has {state.weight} % of the traffic{step}")


def _caption(state: ExperimentState) -> Text:
    counts = f"{state.champion} {state.champion_requests:,} requests, {state.challenger} {state.challenger_requests:,}"
    return Text(f"{counts}; experiment {state.id}")


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f} %"
