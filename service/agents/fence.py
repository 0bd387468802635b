"""Put untrusted data into a prompt as JSON between two marks that no text inside can close.

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
    """Encode the data as JSON without `<`, `>` or `&`."""
    return msgspec.json.encode(data).decode().translate(_ESCAPES)


def fence(data: object) -> str:
    """Put the data between the marks."""
    return f"{OPENING}\n{escaped(data)}\n{CLOSING}"


def within(items: Sequence[T], limit: int) -> tuple[T, ...]:
    """Return the first items that together take at most `limit` characters when fenced."""
    length = 0
    for index, item in enumerate(items):
        length += len(escaped(item)) + 1
        if length > limit:
            return tuple(items[:index])
    return tuple(items)


def encodable(text: str) -> str:
    """Remove lone surrogates, which JSON cannot encode."""
    return text.encode(errors="replace").decode()
