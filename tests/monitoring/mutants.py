"""Queries with one name changed: what a renamed metric or label would make of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from tests.monitoring.boards import Asked

MARK = "_renamed"
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_DURATION = re.compile(r"\[[^\]]*\]|\boffset\s+\S+")
_NAME = re.compile(r"(?<![\w$.:])[A-Za-z_:][\w:]*")
_WORDS = {
    *("by", "on", "and", "or", "unless", "group_left", "group_right", "ignoring", "without", "bool", "offset"),
    *("sum", "max", "min", "avg", "count", "rate", "increase", "histogram_quantile", "label_replace", "clamp_min"),
    *(
        "time",
        "timestamp",
        "vector",
        "avg",
        "clamp_max",
        "max_over_time",
        "last_over_time",
        "changes",
        "topk",
        "unless",
        "end",
        "start",
    ),
}
"""PromQL's own words in our queries; one that is missing here makes mutants that are no PromQL, and so do not live."""
_RELABELLED = re.compile(r'label_replace\(.*,\s*"(?P<target>\w+)",\s*"[^"]*",\s*"(?P<source>\w+)",\s*"[^"]*"\)')


def mutants(asked: Asked) -> Iterator[Asked]:
    """The query with each name changed in each place, one at a time, and with each label that it shows changed."""
    expression = asked.expression
    for start, end in _names(expression):
        changed = f"{expression[:end]}{MARK}{expression[end:]}"
        yield replace(asked, where=f"{asked.where}: {expression[start:end]} at {start}", expression=changed)
    for label in dict.fromkeys(asked.labels):
        shown = tuple(f"{one}{MARK}" if one == label else one for one in asked.labels)
        yield replace(asked, where=f"{asked.where}: shown {label}", labels=shown)


def _names(expression: str) -> Iterator[tuple[int, int]]:
    """Where metrics and labels are named; words inside quotes only where `label_replace` takes them for labels."""
    bare = _DURATION.sub(_blank, _QUOTED.sub(_blank, expression))
    for match in _NAME.finditer(bare):
        if match[0] not in _WORDS:
            yield match.span()
    for match in _RELABELLED.finditer(expression):
        yield match.span("target")
        yield match.span("source")


def _blank(match: re.Match[str]) -> str:
    return " " * len(match[0])
