"""Selectors of series as Prometheus writes them, and the series of a scrape that they pick."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from loadtest.errors import BadInput

_SELECTOR = re.compile(r"^\s*([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(?:\{(.*)\})?\s*$", re.DOTALL)
_MATCHER = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*(,|$)')
_LINE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})?\s*(?<=[\s}])(\S+)')
"""The braces end at the first one outside of quotes: an OpenMetrics line has an exemplar's labels behind its value."""
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")
_ESCAPES = {"\\": "\\", '"': '"', "n": "\n"}

Labels = tuple[tuple[str, str], ...]


class Series(NamedTuple):
    """One series: a name and its labels, sorted."""

    name: str
    labels: Labels


Values = dict[Series, float]


class Matcher(NamedTuple):
    """One condition on a label."""

    label: str
    operator: str
    value: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels meet it; a missing label is an empty one, regular expressions match whole values."""
        found = labels.get(self.label, "")
        if self.operator in {"=", "!="}:
            return (found == self.value) == (self.operator == "=")
        return (re.fullmatch(self.value, found, re.DOTALL) is not None) == (self.operator == "=~")


class Selector(NamedTuple):
    """A metric's name and conditions on its labels."""

    name: str
    matchers: tuple[Matcher, ...] = ()

    def total(self, values: Values, suffix: str = "", **labels: str) -> float:
        """Add up the series that match, of `name + suffix`, with further labels of exactly these values."""
        return sum(value for series, value in values.items() if self.picks(series, suffix, labels))

    def picks(self, series: Series, suffix: str = "", labels: Mapping[str, str] | None = None) -> bool:
        """Whether a series matches."""
        if series.name != self.name + suffix:
            return False
        found = dict(series.labels)
        return all(found.get(name) == value for name, value in (labels or {}).items()) and all(
            matcher.matches(found) for matcher in self.matchers
        )


def parse_selector(text: str) -> Selector:
    """Read a selector. Raises BadInput for anything else than a name with matchers in braces."""
    whole = _SELECTOR.match(text)
    if whole is None:
        raise BadInput(f'{text!r} is not a selector of series: write name{{label="value"}}')
    name, inside = whole.group(1), (whole.group(2) or "").strip()
    matchers: list[Matcher] = []
    while inside:
        one = _MATCHER.match(inside)
        if one is None:
            raise BadInput(f'{text!r}: cannot read {inside!r}: write label="value", with commas between')
        label, operator, value = one.group(1), one.group(2), _unescaped(one.group(3))
        _require_escapes(text, one.group(3))
        _require_pattern(text, operator, value)
        matchers.append(Matcher(label, operator, value))
        inside = inside[one.end() :].strip()
    return Selector(name, tuple(matchers))


def _require_escapes(text: str, quoted: str) -> None:
    for escape in _ESCAPED.findall(quoted):
        if escape not in _ESCAPES:
            raise BadInput(f"{text!r}: \\{escape} is not an escape in PromQL: write \\\\{escape}")


def _require_pattern(text: str, operator: str, value: str) -> None:
    if operator in {"=~", "!~"}:
        try:
            re.compile(value)
        except re.error as error:
            raise BadInput(f"{text!r}: {value!r} is not a regular expression: {error}") from None


def parse_exposition(text: str, names: Iterable[str]) -> Values:
    """Read the series of these names (histograms by their base name) from Prometheus' text format or OpenMetrics."""
    wanted = {name + suffix for name in names for suffix in ("", "_bucket", "_count", "_sum", "_total")}
    found: Values = {}
    for line in text.split("\n"):
        if line.startswith("#") or not line:
            continue
        parts = _LINE.match(line)
        if parts is None or parts.group(1) not in wanted:
            continue
        labels = tuple(sorted((label, _unescaped(value)) for label, value in _LABEL.findall(parts.group(2) or "")))
        found[Series(parts.group(1), labels)] = float(parts.group(3))
    return found


def _unescaped(value: str) -> str:
    """Undo the escapes of a label's value; a backslash before anything else stands for itself."""
    return _ESCAPED.sub(lambda found: _ESCAPES.get(found.group(1), found.group(0)), value)
