"""Data from outside, told to a model: JSON between two marks that no text in it can close.

Column names, values and the client's sentence may hold text that reads like instructions, or like the closing mark.
JSON escapes quotes and control characters; `<`, `>` and `&` are escaped as well, so the marks cannot occur inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec

T = TypeVar("T")

OPENING = '<untrusted-data format="json">'
CLOSING = "</untrusted-data>"

_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def escaped(data: object) -> str:
    """The data as JSON without a `<`, `>` or `&`."""
    return msgspec.json.encode(data).decode().translate(_ESCAPES)


def fence(data: object) -> str:
    """The data between the marks."""
    return f"{OPENING}\n{escaped(data)}\n{CLOSING}"


def within(items: Sequence[T], limit: int) -> tuple[T, ...]:
    """The first items that are together no longer than `limit` characters when they are fenced."""
    length = 0
    for index, item in enumerate(items):
        length += len(escaped(item)) + 1
        if length > limit:
            return tuple(items[:index])
    return tuple(items)


def encodable(text: str) -> str:
    """The text without lone surrogates, which no JSON can carry."""
    return text.encode(errors="replace").decode()
