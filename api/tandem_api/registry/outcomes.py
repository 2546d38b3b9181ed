"""Outcomes of experiments: said once, and never changed."""

from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, Field, JsonValue

from tandem_api.registry.base import Answer, Name, Request


class NewOutcome(Request):
    """PUT /admin/v1/experiments/{id}/outcome."""

    outcome: Name
    """What became of it, such as `promoted` or `rolledBack`."""
    evidence: dict[str, JsonValue] = Field(default_factory=dict, max_length=256)
    decided_at: AwareDatetime


class Outcome(Answer):
    """GET /admin/v1/experiments/{id}/outcome."""

    object: Literal["experiment.outcome"] = "experiment.outcome"
    id: str
    outcome: str
    evidence: dict[str, JsonValue]
    decided_at: datetime
    recorded_at: datetime
    recorded_by: str
