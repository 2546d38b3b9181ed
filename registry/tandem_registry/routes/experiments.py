"""/admin/v1/experiments: what became of experiments."""

from fastapi import APIRouter, Response
from tandem_api.registry import NewOutcome, Outcome, Page

from tandem_registry.outcomes import Outcomes
from tandem_registry.paging import LIMIT, Cursor, Limit
from tandem_registry.routes.common import CallerHere, NameHere, failing


def experiment_routes(outcomes: Outcomes) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/admin/v1/experiments", tags=["experiments"])

    @routes.get("")
    def list_outcomes(limit: Limit = LIMIT, cursor: Cursor = None) -> Page[Outcome]:
        """List outcomes by experiment."""
        return outcomes.page(limit, cursor)

    @routes.get("/{id}/outcome", responses=failing(404))
    def get_outcome(id: NameHere) -> Outcome:
        """Tell what became of an experiment."""
        return outcomes.get(id)

    @routes.put("/{id}/outcome", status_code=201, responses=failing(409))
    def put_outcome(id: NameHere, given: NewOutcome, caller: CallerHere, response: Response) -> Outcome:
        """Keep what became of an experiment, once: 200 where it is kept already, 409 where that is another outcome."""
        outcome, fresh = outcomes.put(id, given, caller)
        response.status_code = 201 if fresh else 200
        return outcome

    return routes
