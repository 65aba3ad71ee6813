"""Pages of a list by keyset: a cursor is the last row's sort key, opaque to who holds it.

A page stays right while rows come and go, and costs the same at the end of a list as at its beginning.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import Query
from sqlalchemy import Select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from edgewise_hub.api.errors import ApiError

Row = TypeVar("Row")

Cursor = Annotated[str | None, Query(max_length=400, description="`next` of the page before")]
Limit = Annotated[int, Query(ge=1, le=500)]


def page(
    session: Session,
    rows: Select[Row],
    by: Sequence[InstrumentedAttribute[Any]],
    cursor: str | None,
    limit: int,
    *,
    newest_first: bool = True,
) -> tuple[list[Row], str | None]:
    """One page of entities sorted by the columns ``by`` (together unique), and the cursor of the next.

    ``newest_first``: descending. Raises ApiError (400, ``bad-cursor``).
    """
    if cursor is not None:
        last = tuple_(*_decode(cursor, len(by)))
        rows = rows.where(tuple_(*by) < last if newest_first else tuple_(*by) > last)
    ordered = rows.order_by(*(column.desc() if newest_first else column.asc() for column in by))
    found = list(session.scalars(ordered.limit(limit + 1)))
    if len(found) <= limit:
        return found, None
    end = found[limit - 1]
    return found[:limit], _encode([getattr(end, column.key) for column in by])


def _encode(key: list[Any]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")


def _decode(cursor: str, length: int) -> list[str | int | float]:
    try:
        key = msgspec.json.decode(
            base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), type=list[str | int | float]
        )
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:
        raise ApiError("cursor: expected `next` of the page before", status=400, code="bad-cursor") from error
    if len(key) != length:
        raise ApiError("cursor: it is of another list", status=400, code="bad-cursor")
    return key
