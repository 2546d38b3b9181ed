"""What a registry:// source stands for at this moment: the one question of workers and the operator."""

from pydantic_core import PydanticCustomError
from tandem_api.inference_service.source import Source
from tandem_api.registry import Resolution

from tandem_registry.artifacts import shapes
from tandem_registry.database import Database
from tandem_registry.failures import Failure, conflict, invalid, not_found
from tandem_registry.models import require_version
from tandem_registry.tables import ActiveRow, AliasRow, ArtifactRow, ModelRow


def resolve(database: Database, uri: str) -> Resolution:
    """The version that a source names, and where its content is.

    Raises:
        Failure: 400 for another source; 404 for a model, version or alias that is not there; 409 where no version is
            active, or the version has other content than the source says.
    """
    source = _parsed(uri)
    pinned = uri.partition("?sha256=")[2]
    with database.reading() as session:
        if session.get(ModelRow, source.authority) is None:
            raise not_found(f"model {source.authority!r}", "GET /admin/v1/registry/models lists those that are")
        active = session.get(ActiveRow, source.authority)
        activation = None
        if source.path:
            name = source.path
        elif source.revision:
            alias = session.get(AliasRow, (source.authority, source.revision))
            if alias is None:
                raise not_found(f"alias {source.revision!r} of model {source.authority!r}")
            name = alias.version
        elif active is not None:
            name, activation = active.version, active.activation
        else:
            raise conflict(
                "nothing_active",
                f"no version of {source.authority!r} is active: activate one, or name it: "
                f"registry://{source.authority}/VERSION",
            )
        row = require_version(session, source.authority, name)
        artifact = None
        if row.artifact is not None:
            artifact = shapes(session, [session.get_one(ArtifactRow, row.artifact)])[0]
        if pinned and row.digest != f"sha256:{pinned}":
            raise conflict(
                "digest_mismatch", f"registry://{row.model}/{row.name} has digest {row.digest}, not sha256:{pinned}"
            )
        return Resolution.model_validate(
            {
                "uri": row.source or f"registry://{row.model}/{row.name}?{(row.digest or '').replace(':', '=')}",
                "model": row.model,
                "version": row.name,
                "activation": activation,
                "source": row.source,
                "digest": row.digest,
                "format": row.format,
                "engine": row.engine,
                "artifact": artifact,
            }
        )


def _parsed(uri: str) -> Source:
    wrong: Failure = invalid(
        "source: must be registry://NAME, registry://NAME/VERSION or registry://NAME@ALIAS", "source"
    )
    try:
        source = Source.parse(uri)
    except PydanticCustomError:
        raise wrong from None
    if source.scheme != "registry":
        raise wrong
    return source
