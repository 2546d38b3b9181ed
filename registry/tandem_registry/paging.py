"""Lists in parts. A cursor holds the last key of a part, so that rows which come or go meanwhile shift nothing."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar, cast

from fastapi import Query
from sqlalchemy import Select
from sqlalchemy.orm import InstrumentedAttribute, Session
from tandem_api.registry import Page

from tandem_registry.failures import Failure, invalid

LIMIT = 50
MOST = 500

Limit = Annotated[int, Query(ge=1, le=MOST, description="Entries of a part.")]
Cursor = Annotated[str | None, Query(max_length=1024, description="The `next_cursor` of the part before.")]

Row = TypeVar("Row")
Shape = TypeVar("Shape")
Key = TypeVar("Key", str, int)


def paged(
    session: Session,
    select: Select[Row],
    key: InstrumentedAttribute[Key],
    limit: int,
    cursor: str | None,
    shapes: Callable[[Sequence[Row]], Sequence[Shape]],
    *,
    descending: bool = False,
) -> Page[Shape]:
    """A part of a list.

    Args:
        session: Where to read.
        select: All rows of the list.
        key: The column that the list is ordered by: no two of its rows are equal in it.
        limit: Rows of a part.
        cursor: Of the part before, or None.
        shapes: Makes of rows what is answered.
        descending: The largest first.

    Raises:
        Failure: 400, the cursor is not one of this list.
    """
    if cursor is not None:
        after = _read(cursor, key)
        select = select.where(key < after if descending else key > after)
    ordered = select.order_by(key.desc() if descending else key.asc())
    rows = session.scalars(ordered.limit(limit + 1)).all()
    more = len(rows) > limit
    rows = rows[:limit]
    following = _write(key, getattr(rows[-1], key.key)) if more else None
    return Page(data=tuple(shapes(rows)), next_cursor=following)


def _name(key: InstrumentedAttribute[Any]) -> str:
    return f"{key.class_.__tablename__}.{key.key}"


def _write(key: InstrumentedAttribute[Any], last: object) -> str:
    return base64.urlsafe_b64encode(json.dumps([_name(key), last]).encode()).decode().rstrip("=")


def _read(cursor: str, key: InstrumentedAttribute[Key]) -> Key:
    wrong: Failure = invalid("cursor: not one of this list: give back its next_cursor as it was", "cursor")
    try:
        name, last = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, TypeError, binascii.Error):
        raise wrong from None
    if name != _name(key) or not isinstance(last, key.type.python_type):
        raise wrong
    return cast("Key", last)
