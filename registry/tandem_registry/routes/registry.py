"""/admin/v1/registry: models, versions, aliases, what is active."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from tandem_api.registry import (
    Activate,
    Activation,
    ChangeModel,
    Deleted,
    Model,
    NewModel,
    NewVersion,
    Page,
    Resolution,
    Rollback,
    SetAlias,
    Use,
    Version,
)

from tandem_registry.activations import Activations
from tandem_registry.database import Database
from tandem_registry.models import Models
from tandem_registry.paging import LIMIT, Cursor, Limit
from tandem_registry.preconditions import IfMatch, IfNoneMatch, tagged
from tandem_registry.resolving import resolve
from tandem_registry.routes.common import CallerHere, HolderHere, NameHere, failing
from tandem_registry.versions import Versions


def registry_routes(database: Database, models: Models, versions: Versions, activations: Activations) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/admin/v1/registry", tags=["registry"])

    def answer(name: str) -> Response:
        model, tag = models.get(name)
        return tagged(model, tag, None)

    @routes.post("/models", status_code=201, responses=failing(409))
    def create_model(given: NewModel, caller: CallerHere) -> Model:
        """Make a model."""
        return models.create(given, caller)

    @routes.get("/models")
    def list_models(limit: Limit = LIMIT, cursor: Cursor = None) -> Page[Model]:
        """List models by name."""
        return models.page(limit, cursor)

    @routes.get("/models/{name}", response_model=Model, responses=failing(404))
    def get_model(name: NameHere, if_none_match: IfNoneMatch = None) -> Response:
        """Show a model, with its ETag."""
        return tagged(*models.get(name), if_none_match)

    @routes.patch("/models/{name}", response_model=Model, responses=failing(404, 412, 428))
    def change_model(name: NameHere, given: ChangeModel, if_match: IfMatch = None) -> Response:
        """Change a model's description."""
        models.change(name, given, if_match)
        return answer(name)

    @routes.delete("/models/{name}", responses=failing(404, 409, 412, 428))
    def delete_model(name: NameHere, if_match: IfMatch = None) -> Deleted:
        """Delete a model that has no versions, and its history."""
        models.delete(name, if_match)
        return Deleted(id=name, object="model")

    @routes.put("/models/{name}/aliases/{alias}", response_model=Model, responses=failing(404, 412, 428))
    def set_alias(name: NameHere, alias: NameHere, given: SetAlias, if_match: IfMatch = None) -> Response:
        """Make an alias stand for a version."""
        models.set_alias(name, alias, given.version, if_match)
        return answer(name)

    @routes.delete("/models/{name}/aliases/{alias}", response_model=Model, responses=failing(404, 412, 428))
    def delete_alias(name: NameHere, alias: NameHere, if_match: IfMatch = None) -> Response:
        """Delete an alias; the version stays."""
        models.delete_alias(name, alias, if_match)
        return answer(name)

    @routes.post("/models/{name}/activate", responses=failing(404, 412, 428))
    def activate(name: NameHere, given: Activate, caller: CallerHere, if_match: IfMatch = None) -> Activation:
        """Make a version the active one: what follows registry://NAME rolls over to it."""
        return activations.activate(name, given, if_match, caller)

    @routes.post("/models/{name}/rollback", responses=failing(404, 409, 412, 428))
    def rollback(name: NameHere, given: Rollback, caller: CallerHere, if_match: IfMatch = None) -> Activation:
        """Make the version active that was active before."""
        return activations.rollback(name, given, if_match, caller)

    @routes.get("/models/{name}/history", responses=failing(404))
    def history(name: NameHere, limit: Limit = LIMIT, cursor: Cursor = None) -> Page[Activation]:
        """List what was made active by whom, when and why, the latest first."""
        models.get(name)
        return activations.page(name, limit, cursor)

    @routes.post("/models/{name}/versions", status_code=201, responses=failing(404, 409))
    def register(name: NameHere, given: NewVersion, caller: CallerHere) -> Version:
        """Register a version."""
        return versions.register(name, given, caller)

    @routes.get("/models/{name}/versions", responses=failing(404))
    def list_versions(name: NameHere, limit: Limit = LIMIT, cursor: Cursor = None) -> Page[Version]:
        """List a model's versions, the latest first."""
        models.get(name)
        return versions.page(name, limit, cursor)

    @routes.get("/models/{name}/versions/{version}", responses=failing(404))
    def get_version(name: NameHere, version: NameHere) -> Version:
        """Show a version."""
        return versions.get(name, version)

    @routes.delete("/models/{name}/versions/{version}", responses=failing(404, 409))
    def delete_version(name: NameHere, version: NameHere) -> Deleted:
        """Delete a version that is neither active nor aliased nor in use. An artifact of it stays."""
        versions.delete(name, version)
        return Deleted(id=f"{name}/{version}", object="model.version")

    @routes.put("/models/{name}/versions/{version}/uses/{holder:path}", responses=failing(404))
    def use(name: NameHere, version: NameHere, holder: HolderHere) -> Use:
        """Keep a version from being deleted while this holder, such as a service, needs it."""
        return versions.use(name, version, holder)

    @routes.delete("/models/{name}/versions/{version}/uses/{holder:path}", responses=failing(404))
    def release(name: NameHere, version: NameHere, holder: HolderHere) -> Deleted:
        """End a use."""
        versions.release(name, version, holder)
        return Deleted(id=holder, object="model.version.use")

    @routes.get("/resolve", responses=failing(404, 409))
    def resolve_source(source: Annotated[str, Query(max_length=1024)]) -> Resolution:
        """Tell what registry://NAME, registry://NAME/VERSION or registry://NAME@ALIAS stands for now."""
        return resolve(database, source)

    return routes
