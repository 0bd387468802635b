"""Store typed structs in JSONB columns, encoded and decoded by msgspec without intermediate dictionaries."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
from sqlalchemy import DateTime, Dialect, Text, cast, type_coerce
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.elements import BindParameter, ColumnElement
from sqlalchemy.types import TypeDecorator, UserDefinedType

# PostgreSQL's JSONB and text hold every character but NUL, which any upload or request may contain. NUL is written as
# DLE 0, and DLE (ASCII's "data link escape") as DLE DLE, so that every text is restored exactly.
_ESCAPABLE = re.compile(r"\\(?:u0000|u0010|.)")
_ESCAPED = re.compile(r"\\(?:u0010(?:0|\\u0010)|.)")
_ESCAPE = {r"\u0000": r"\u00100", r"\u0010": r"\u0010\u0010"}
_UNESCAPE = {escaped: plain for plain, escaped in _ESCAPE.items()}

# JSONB keeps numbers as decimals and writes 1e300 as an integer; a fraction keeps it a float.
_EXPONENT = re.compile(r"\de\d")
_STRING_OR_EXPONENT = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?e\d+')


def _fraction(found: re.Match[str]) -> str:
    token = found[0]
    return token if token.startswith('"') else f"{Decimal(token):f}.0"


def encode(value: object) -> str:
    """Encode a value as JSON that JSONB returns unchanged, whatever strings and numbers it holds."""
    text = msgspec.json.encode(value).decode()
    if _EXPONENT.search(text):
        text = _STRING_OR_EXPONENT.sub(_fraction, text)
    if r"\u0000" in text or r"\u0010" in text:
        return _ESCAPABLE.sub(lambda found: _ESCAPE.get(found[0], found[0]), text)
    return text


def unescaped(text: str) -> str:
    """Undo `encode`'s escaping."""
    if r"\u0010" in text:
        return _ESCAPED.sub(lambda found: _UNESCAPE.get(found[0], found[0]), text)
    return text


def _encoded(value: object) -> str | None:
    return None if value is None else encode(value)


class Payload(UserDefinedType[Any]):
    """A JSONB column whose Python value is a struct of the given type."""

    cache_ok = True

    def __init__(self, struct: type[msgspec.Struct]) -> None:
        self.struct = struct

    def get_col_spec(self, **_: object) -> str:
        """Return the column's type in DDL."""
        return "JSONB"

    def bind_processor(self, dialect: Dialect) -> Callable[..., str | None]:  # noqa: ARG002 - the signature
        """Convert a struct to JSON text."""
        return _encoded

    def bind_expression(self, bindvalue: BindParameter[Any]) -> ColumnElement[Any]:
        """Cast the text to JSONB in the server."""
        return cast(bindvalue, JSONB)

    def column_expression(self, colexpr: ColumnElement[Any]) -> ColumnElement[Any]:
        """Cast JSONB to text in the server, so that the driver does not parse it."""
        return type_coerce(cast(colexpr, Text), self)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[..., Any]:  # noqa: ARG002 - the signature
        """Convert JSON text to a struct."""
        decoder = msgspec.json.Decoder(self.struct)

        def decoded(value: str | None) -> Any:
            return None if value is None else decoder.decode(unescaped(value))

        return decoded


class Instant(TypeDecorator[datetime]):
    """An aware datetime; read in UTC whatever the session's time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - the signature
        """Convert any offset to UTC."""
        return None if value is None else value.astimezone(UTC)


def storable(*texts: str | None) -> bool:
    """Whether PostgreSQL can store these texts: they hold no NUL and no lone surrogate."""
    return all(text is None or ("\0" not in text and _is_unicode(text)) for text in texts)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
