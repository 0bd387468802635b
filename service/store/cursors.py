"""Write and read cursors, which say where the next page of a list begins; opaque to clients."""

from __future__ import annotations

from base64 import b64decode, urlsafe_b64encode
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from service.features.errors import InvalidRequest
from service.features.model import FieldError
from service.store.payload import storable

MAX_LENGTH = 1024


class Position(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The last row of a page, in the order of its list. It grants no rights: every query also filters by owner."""

    kind: str
    """Which list it belongs to."""
    created_at: Annotated[datetime, Meta(tz=True)]
    id: str


def write_cursor(position: Position) -> str:
    """Encode a position as text that is safe in a URL."""
    return urlsafe_b64encode(msgspec.json.encode(position)).decode().rstrip("=")


def read_cursor(kind: str, cursor: str) -> Position:
    """Decode a cursor of this kind of list. Raises InvalidRequest for anything else."""
    position = _position(cursor) if len(cursor) <= MAX_LENGTH else None
    if position is None or position.kind != kind or not storable(position.id):
        fault = FieldError("cursor", "is not one that this list gave; leave it out to begin at the newest")
        raise InvalidRequest("The cursor cannot be used.", errors=[fault])
    return position


def _position(cursor: str) -> Position | None:
    padding = "=" * (-len(cursor) % 4)
    try:
        return msgspec.json.decode(b64decode(cursor + padding, altchars=b"-_", validate=True), type=Position)
    except ValueError:
        return None
