"""Literals of predicates, converted to the type of the column they are compared with."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Literal

from service.features.model import ColumnProfile, FeatureType
from service.features.operations.parameters import Comparison, Scalar

ORDERED: frozenset[Comparison] = frozenset({"lt", "le", "gt", "ge"})
LARGEST_INTEGER = 2**63 - 1
"""Of a BIGINT, in either direction."""

Storage = Literal["number", "integer", "boolean", "string", "datetime"]
STORAGE: dict[str, Storage] = {
    "BOOLEAN": "boolean",
    "TINYINT": "integer", "SMALLINT": "integer", "INTEGER": "integer", "BIGINT": "integer",
    "FLOAT": "number", "DOUBLE": "number",
    "TIMESTAMP": "datetime", "DATE": "datetime",
}  # fmt: skip


class LiteralUnfit(ValueError):
    """The literal cannot be compared with the column; the message says what can."""


def storage_of(column: ColumnProfile) -> Storage:
    """How the engine holds the column's values; everything it has no closer word for is text."""
    return STORAGE.get(column.physical_type.upper(), "string")


def feature_type(column: ColumnProfile) -> FeatureType:
    """The type of a feature that holds the column's own values."""
    storage = storage_of(column)
    return "string" if storage == "datetime" else storage


def convert(value: Scalar, column: ColumnProfile, comparison: Comparison) -> Scalar | datetime:
    """The literal as the column's type: a number, boolean, text, or a naive datetime in UTC.

    Raises LiteralUnfit; its message does not repeat the literal.
    """
    storage = storage_of(column)
    if comparison in ORDERED and storage in {"boolean", "string"}:
        raise LiteralUnfit(f"{comparison} needs a number or datetime column; {column.name!r} is {column.logical_type}")
    if storage == "boolean":
        return _boolean(value, column)
    if storage == "datetime":
        return _instant(value, column)
    if storage == "string":
        return _text(value, column)
    return _number(value, column)


def _number(value: Scalar, column: ColumnProfile) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise LiteralUnfit(f"{column.name!r} holds numbers: compare it with a number")
    fits = abs(value) <= LARGEST_INTEGER if isinstance(value, int) else math.isfinite(value)
    if not fits:
        raise LiteralUnfit(f"{column.name!r} holds numbers: compare it with a finite number of 64 bits")
    return value


def _boolean(value: Scalar, column: ColumnProfile) -> bool:
    known = {"true": True, "false": False, "1": True, "0": False}
    word = str(value).lower()
    if isinstance(value, float) or word not in known:
        raise LiteralUnfit(f"{column.name!r} is boolean: compare it with true or false")
    return known[word]


def _text(value: Scalar, column: ColumnProfile) -> str:
    if isinstance(value, bool):
        raise LiteralUnfit(f"{column.name!r} holds text: compare it with text")
    if "\0" in str(value):
        raise LiteralUnfit(f"{column.name!r} holds text: compare it with text without a zero character")
    return str(value)


def _instant(value: Scalar, column: ColumnProfile) -> datetime:
    try:
        instant = datetime.fromisoformat(value) if isinstance(value, str) else None
        if instant is not None and instant.tzinfo:
            instant = instant.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):  # the latter for the first or last day of the calendar in another zone
        instant = None
    if instant is None:
        raise LiteralUnfit(f"{column.name!r} holds times: compare it with ISO 8601 text, as in 2026-01-31T12:00:00Z")
    return instant
