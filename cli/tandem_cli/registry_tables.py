"""What the registry has, as people read it."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from tandem_api.registry import Activation, Artifact, Key, Model, Version

from tandem_cli.text import size, table


def models_table(models: Sequence[Model]) -> str:
    """One row a model."""
    rows = [(model.name, model.active or "-", _aliases(model) or "-", model.description or "-") for model in models]
    return table(("NAME", "ACTIVE", "ALIASES", "DESCRIPTION"), rows)


def versions_table(versions: Sequence[Version]) -> str:
    """One row a version."""
    rows = [
        (
            version.name,
            "yes" if version.active else "-",
            ", ".join(version.aliases) or "-",
            version.format,
            _content(version),
            _digest(version.digest),
            _pairs(version.metrics),
            moment(version.created_at),
        )
        for version in versions
    ]
    return table(("VERSION", "ACTIVE", "ALIASES", "FORMAT", "CONTENT", "DIGEST", "METRICS", "REGISTERED"), rows)


def activations_table(activations: Sequence[Activation]) -> str:
    """One row an entry of the history."""
    rows = [
        (
            str(entry.number),
            moment(entry.at),
            entry.kind,
            f"{entry.former or '-'} -> {entry.version}",
            entry.by,
            entry.reason or "-",
        )
        for entry in activations
    ]
    return table(("#", "WHEN", "WHAT", "VERSION", "BY", "WHY"), rows)


def artifacts_table(artifacts: Sequence[Artifact]) -> str:
    """One row an artifact."""
    rows = [
        (
            artifact.id,
            artifact.format,
            size(artifact.size),
            str(len(artifact.files)),
            _digest(artifact.digest),
            moment(artifact.created_at),
        )
        for artifact in artifacts
    ]
    return table(("ID", "FORMAT", "SIZE", "FILES", "DIGEST", "UPLOADED"), rows)


def keys_table(keys: Sequence[Key]) -> str:
    """One row a key."""
    rows = [
        (
            key.id,
            ", ".join(key.scopes),
            _state(key),
            "never" if key.expires_at is None else moment(key.expires_at),
            _limit(key.limits.requests_per_minute),
            _limit(key.limits.tokens_per_minute),
            moment(key.rotated_at or key.created_at),
            key.description or "-",
        )
        for key in keys
    ]
    return table(("ID", "SCOPES", "STATE", "EXPIRES", "REQ/MIN", "TOK/MIN", "ISSUED", "DESCRIPTION"), rows)


def model_text(model: Model) -> str:
    """A model in lines."""
    return _lines(
        {
            "name": model.name,
            "active": model.active or "none: `tandem registry activate` makes a version active",
            "aliases": _aliases(model),
            "description": model.description,
            "created": f"{moment(model.created_at)} by {model.created_by}",
        }
    )


def version_text(version: Version) -> str:
    """A version in lines."""
    return _lines(
        {
            "version": f"{version.model}/{version.name}",
            "active": "yes" if version.active else "no",
            "aliases": ", ".join(version.aliases),
            "used by": ", ".join(version.used_by),
            "content": _content(version),
            "digest": version.digest or "",
            "format": version.format,
            "engine": " ".join(version.engine.args),
            "labels": _pairs(version.labels) if version.labels else "",
            "metrics": _pairs(version.metrics) if version.metrics else "",
            "description": version.description,
            "created": f"{moment(version.created_at)} by {version.created_by}",
        }
    )


def moment(at: datetime) -> str:
    """A time in UTC, to the second."""
    return f"{at:%Y-%m-%d %H:%M:%S}Z"


def _lines(fields: dict[str, str]) -> str:
    width = max(map(len, fields))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in fields.items() if text)


def _state(key: Key) -> str:
    return "valid" if key.revoked_at is None else "revoked"


def _limit(limit: int | None) -> str:
    return "-" if limit is None else f"{limit:,}"


def _aliases(model: Model) -> str:
    return ", ".join(f"{alias}={version}" for alias, version in model.aliases.items())


def _content(version: Version) -> str:
    return version.source or f"artifact {version.artifact}"


def _digest(digest: str | None) -> str:
    """Enough of it to tell two apart."""
    return "-" if digest is None else digest[:19]


def _pairs(values: Mapping[str, object]) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items()) or "-"
