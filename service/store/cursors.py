"""Cursors: where in a list the next page begins. Opaque to clients, checked when they come back."""

from __future__ import annotations

from base64 import b64decode, urlsafe_b64encode
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from service.features.errors import InvalidRequest
from service.features.model import FieldError
from service.store.payload import storable

MAXIMUM_LENGTH = 1024


class Position(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The last row of a page, by the order of its list. It gives no rights: every query asks for the owner as well."""

    kind: str
    """Which list it is of."""
    created_at: Annotated[datetime, Meta(tz=True)]
    id: str


def write_cursor(position: Position) -> str:
    """Text that is safe in a URL as it is."""
    return urlsafe_b64encode(msgspec.json.encode(position)).decode().rstrip("=")


def read_cursor(kind: str, cursor: str) -> Position:
    """The position that a list of this kind gave out. Raises InvalidRequest for anything else."""
    position = _position(cursor) if len(cursor) <= MAXIMUM_LENGTH else None
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
