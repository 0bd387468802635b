"""Small pieces of PromQL."""

from __future__ import annotations


def selected(series: str, matchers: str) -> str:
    """A series selector with more matchers: `name{a="b"}` and `c="d"` make `name{c="d",a="b"}`."""
    name, _, rest = series.partition("{")
    return f"{name}{{{matchers},{rest}" if rest else f"{name}{{{matchers}}}"


def suffixed(series: str, suffix: str) -> str:
    """A series selector with a suffix at its name: `name{…}` and `_count` make `name_count{…}`."""
    name, brace, rest = series.partition("{")
    return f"{name}{suffix}{brace}{rest}"
