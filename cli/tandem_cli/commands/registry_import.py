"""`tandem registry import`: a model from a folder or a source into the repository, as a version."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from tandem_api.registry import Activate, NewVersion, Version

from tandem_cli.failing import Failed
from tandem_cli.metering import metered
from tandem_cli.registering import change, register, who
from tandem_cli.registry import REGISTRY, registry_at, registry_options
from tandem_cli.uploading import Meter, files_of, upload_model


@click.command("import", epilog="Example: tandem registry import hf://Qwen/Qwen3-0.6B qwen3 v1 --activate")
@click.argument("source", metavar="SOURCE")
@click.argument("name")
@click.argument("version")
@click.option("--artifact", metavar="ID", help="How the repository calls it. Default: NAME/VERSION.")
@click.option("--activate", is_flag=True, help="Make it the active version, too.")
@click.option("--reason", default="", help="Why; it stands in the history.")
@registry_options
def import_command(
    source: str,
    name: str,
    version: str,
    artifact: str | None,
    activate: bool,
    reason: str,
    url: str,
    key_file: Path | None,
    output: str,
) -> None:
    """Upload a model, and register it as VERSION of NAME.

    SOURCE is a folder with safetensors, a GGUF file, or a source that workers understand: hf://org/name@commit,
    s3://bucket/prefix, bundled://smollm2-135m. Called again after a break, it goes on where it stopped.
    """
    with registry_at(url, key_file) as registry, metered() as meter, _local(source, meter) as folder:
        form, files = files_of(folder)
        made = upload_model(registry, artifact or f"{name}/{version}", form, files, meter)
        labels = {"imported-from": source[:128]} if "://" in source else {}
        shown = register(registry, name, NewVersion(name=version, artifact=made.id, digest=made.digest, labels=labels))
        if activate:
            change(registry, name, "activate", Activate(version=version, reason=reason, by=who()))
            shown = registry.get(Version, f"{REGISTRY}/models/{name}/versions/{version}")
    if output == "json":
        click.echo(shown.model_dump_json(indent=2))
    else:
        click.echo(f"{name}/{version} is registered{' and active' if activate else ''}: registry://{name}/{version}")


@contextmanager
def _local(source: str, meter: Meter) -> Iterator[Path]:
    """A folder or file with the source's content, for the block.

    Raises:
        Failed: it is not there, or can't be fetched.
    """
    if "://" not in source:
        path = Path(source)
        if not path.exists():
            raise Failed(f"there is nothing at {source}", "name a folder, a GGUF file, or hf://org/name")
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="tandem-import-") as temporary:
        folder = Path(temporary) / "model"
        _fetch(source, folder, meter)
        yield folder


def _fetch(source: str, folder: Path, meter: Meter) -> None:
    """As a worker fetches it: pinned, checked, resumed, kept in the user's cache."""
    program = [sys.executable, "-m", "tandem_engine.sources", "fetch"]
    arguments = ["--source", source, "--to", str(folder), "--progress", "json"]
    said, step = "", ""
    with subprocess.Popen(
        [*program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stderr is not None
            for line in child.stderr:
                try:
                    report = json.loads(line)
                except ValueError:
                    said = line.strip() or said
                    continue
                if report["step"] == "error":
                    said = report["message"]
                elif (shown := f"{report['step']} {report['message']}") != step:
                    step = shown
                    meter.begin(step, report.get("total_bytes", 0))
                meter.at(report.get("bytes", 0))
        except BaseException:
            child.terminate()
            raise
    if child.returncode != 0:
        raise Failed(
            said.partition(": ")[2] or said or f"fetching {source} failed",
            "mend that, then run the same command again: what was fetched is kept",
        )
