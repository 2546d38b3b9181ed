"""`tandem registry`: models, their versions, and which one is active."""

import json
from pathlib import Path
from typing import Any, Final

import click
from pydantic import ValidationError
from tandem_api.registry import (
    Activate,
    Activation,
    Artifact,
    Deleted,
    Model,
    NewVersion,
    Rollback,
    SetAlias,
    Version,
)

from tandem_cli.commands.registry_import import import_command
from tandem_cli.registering import change, register, who
from tandem_cli.registry import REGISTRY, REPOSITORY, registry_at, registry_options
from tandem_cli.registry_tables import (
    activations_table,
    artifacts_table,
    model_text,
    models_table,
    version_text,
    versions_table,
)

_REASON: Final = click.option("--reason", default="", help="Why; it stands in the history.")


def _json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))


def _echo(output: str, value: Any, text: str) -> None:
    """Prints a shape, or shapes, in one way or the other."""
    if output == "json":
        whole = (
            [item.model_dump(mode="json") for item in value]
            if isinstance(value, list)
            else value.model_dump(mode="json")
        )
        _json(whole)
    else:
        click.echo(text)


@click.group("registry", epilog="Example: tandem registry import ./llama llama v2 && tandem registry activate llama v2")
def command() -> None:
    """Keep models and their versions, and say which version is active.

    A service with `source: registry://NAME` runs the active version and follows when that changes; with
    `registry://NAME/VERSION` it stays on one.
    """


@command.command("list")
@click.argument("name", required=False)
@registry_options
def list_command(name: str | None, url: str, key_file: Path | None, output: str) -> None:
    """List models, or the versions of the model NAME, the latest first."""
    with registry_at(url, key_file) as registry:
        if name is None:
            models = list(registry.all(Model, f"{REGISTRY}/models"))
            text = models_table(models) if models else "No models yet: `tandem registry import SOURCE NAME VERSION`."
            _echo(output, models, text)
        else:
            versions = list(registry.all(Version, f"{REGISTRY}/models/{name}/versions"))
            text = versions_table(versions) if versions else f"{name} has no versions yet."
            _echo(output, versions, text)


@command.command("artifacts")
@registry_options
def artifacts_command(url: str, key_file: Path | None, output: str) -> None:
    """List what the repository keeps the files of."""
    with registry_at(url, key_file) as registry:
        artifacts = list(registry.all(Artifact, f"{REPOSITORY}/models"))
        _echo(output, artifacts, artifacts_table(artifacts) if artifacts else "The repository is empty.")


@command.command("show")
@click.argument("what", metavar="NAME[/VERSION]")
@registry_options
def show_command(what: str, url: str, key_file: Path | None, output: str) -> None:
    """Show a model or a version."""
    name, _, version = what.partition("/")
    with registry_at(url, key_file) as registry:
        if version:
            shown = registry.get(Version, f"{REGISTRY}/models/{name}/versions/{version}")
            _echo(output, shown, version_text(shown))
        else:
            model = registry.get(Model, f"{REGISTRY}/models/{name}")
            _echo(output, model, model_text(model))


@command.command(
    "register", epilog="Example: tandem registry register llama v2 --source hf://org/llama@4f0c --metric mmlu=0.68"
)
@click.argument("name")
@click.argument("version")
@click.option("--source", metavar="URI", help="Where workers fetch it: hf://, s3://, file://; best with a commit.")
@click.option("--artifact", metavar="ID", help="What the repository has: `tandem registry artifacts` lists it.")
@click.option("--digest", help="Of the content: sha256:...")
@click.option("--engine-arg", "engine_args", multiple=True, help="Default for the engine, e.g. --max-model-len=8192.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Any number of times.")
@click.option("--metric", "metrics", multiple=True, metavar="KEY=NUMBER", help="Any number of times.")
@click.option("--description", default="", help="For people.")
@click.option("--activate", is_flag=True, help="Make it the active version, too.")
@_REASON
@registry_options
def register_command(
    name: str,
    version: str,
    source: str | None,
    artifact: str | None,
    digest: str | None,
    engine_args: tuple[str, ...],
    labels: tuple[str, ...],
    metrics: tuple[str, ...],
    description: str,
    activate: bool,
    reason: str,
    url: str,
    key_file: Path | None,
    output: str,
) -> None:
    """Register VERSION of the model NAME. It never changes afterwards.

    Its content is elsewhere (--source) or in the repository (--artifact); `import` uploads it on the way.
    """
    try:
        given = NewVersion.model_validate(
            {
                "name": version,
                "source": source,
                "artifact": artifact,
                "digest": digest,
                "engine": {"args": list(engine_args)} if engine_args else {},
                "labels": _pairs(labels, "--label"),
                "metrics": _pairs(metrics, "--metric"),
                "description": description,
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise click.UsageError(f"{'.'.join(map(str, first['loc'])) or 'the version'}: {first['msg']}") from None
    with registry_at(url, key_file) as registry:
        registered = register(registry, name, given)
        if activate:
            change(registry, name, "activate", Activate(version=version, reason=reason, by=who()))
            registered = registry.get(Version, f"{REGISTRY}/models/{name}/versions/{version}")
        _echo(output, registered, f"{name}/{version} is registered{' and active' if activate else ''}")


@command.command("activate")
@click.argument("name")
@click.argument("version")
@_REASON
@registry_options
def activate_command(name: str, version: str, reason: str, url: str, key_file: Path | None, output: str) -> None:
    """Make VERSION the active one of NAME: services with `source: registry://NAME` roll over to it."""
    with registry_at(url, key_file) as registry:
        done = change(registry, name, "activate", Activate(version=version, reason=reason, by=who()))
        _echo(output, done, _said(name, done))


@command.command("rollback")
@click.argument("name")
@_REASON
@registry_options
def rollback_command(name: str, reason: str, url: str, key_file: Path | None, output: str) -> None:
    """Make the version of NAME active that was active before; once more goes further back."""
    with registry_at(url, key_file) as registry:
        done = change(registry, name, "rollback", Rollback(reason=reason, by=who()))
        _echo(output, done, _said(name, done))


@command.command("history")
@click.argument("name")
@registry_options
def history_command(name: str, url: str, key_file: Path | None, output: str) -> None:
    """List what was active when, by whom and why, the latest first."""
    with registry_at(url, key_file) as registry:
        entries = list(registry.all(Activation, f"{REGISTRY}/models/{name}/history"))
        _echo(output, entries, activations_table(entries) if entries else f"Nothing of {name} was active yet.")


@command.command("alias", epilog="Example: tandem registry alias llama champion v2; then registry://llama@champion")
@click.argument("name")
@click.argument("alias")
@click.argument("version", required=False)
@click.option("--delete", "delete", is_flag=True, help="Delete the alias; its version stays.")
@registry_options
def alias_command(
    name: str, alias: str, version: str | None, delete: bool, url: str, key_file: Path | None, output: str
) -> None:
    """Make ALIAS, such as champion, stand for VERSION of NAME."""
    if delete is (version is not None):
        raise click.UsageError("give either a VERSION or --delete")
    path = f"{REGISTRY}/models/{name}"
    with registry_at(url, key_file) as registry:
        headers = {"If-Match": registry.etag(path)}
        method, given = ("DELETE", None) if version is None else ("PUT", SetAlias(version=version))
        model = registry.send(Model, method, f"{path}/aliases/{alias}", given, headers)
        _echo(output, model, model_text(model))


@command.command("delete")
@click.argument("what", metavar="NAME[/VERSION]", required=False)
@click.option("--artifact", metavar="ID", help="Delete an artifact of the repository in place of a version.")
@registry_options
def delete_command(what: str | None, artifact: str | None, url: str, key_file: Path | None, output: str) -> None:
    """Delete a version that nothing needs, or a model without versions.

    An active version, one with an alias and one that a service runs can't be deleted; the errors say what to change
    first. The name of a deleted version is not given again.
    """
    if (what is None) is (artifact is None):
        raise click.UsageError("give either NAME[/VERSION] or --artifact ID")
    with registry_at(url, key_file) as registry:
        if what is None:
            gone = registry.send(Deleted, "DELETE", f"{REPOSITORY}/models/{artifact}")
        elif "/" in what:
            name, _, version = what.partition("/")
            gone = registry.send(Deleted, "DELETE", f"{REGISTRY}/models/{name}/versions/{version}")
        else:
            path = f"{REGISTRY}/models/{what}"
            gone = registry.send(Deleted, "DELETE", path, headers={"If-Match": registry.etag(path)})
        _echo(output, gone, f"{gone.id} is deleted")


command.add_command(import_command)


def _said(name: str, done: Activation) -> str:
    former = f" (before: {done.former})" if done.former else ""
    return f"{name}/{done.version} is active{former}"


def _pairs(given: tuple[str, ...], option: str) -> dict[str, str]:
    pairs = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise click.UsageError(f"{option} {pair!r}: must be KEY=VALUE")
        pairs[key] = value
    return pairs
