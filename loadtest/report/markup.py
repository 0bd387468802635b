"""HTML and SVG elements from escaped parts: `Markup` is made here alone, so that no raw text gets into a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import NewType

from loadtest.report.formats import clean, visible

Markup = NewType("Markup", str)
EMPTY = Markup("")


def text(value: str) -> Markup:
    """Escape a text."""
    return Markup(escape(clean(value)))


def element(name: str, attributes: Mapping[str, str | float] | None = None, *content: Markup) -> Markup:
    """Build an element; one without content closes itself. Attribute values are escaped, numbers get two decimals."""
    start = name + "".join(f' {key}="{_value(value)}"' for key, value in (attributes or {}).items())
    return Markup(f"<{start}>{''.join(content)}</{name}>" if content else f"<{start}/>")


def leaf(name: str, attributes: Mapping[str, str | float], words: str) -> Markup:
    """Build an element that holds a text."""
    return element(name, attributes, text(words))


def join(parts: Iterable[Markup], between: str = "") -> Markup:
    """Put elements one after the other."""
    return Markup(escape(between).join(parts))


def _value(value: str | float) -> str:
    """Write an attribute's value."""
    return escape(visible(value)) if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
