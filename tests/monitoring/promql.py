"""What a PromQL expression stands on: its selectors, and the labels that each part of it takes for granted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import promql_parser as parser

_OPERATORS = {
    str(parser.MatchOp.Equal): "=",
    str(parser.MatchOp.NotEqual): "!=",
    str(parser.MatchOp.Re): "=~",
    str(parser.MatchOp.NotRe): "!~",
}


@dataclass(frozen=True)
class Need:
    """A query that must bring series, and the labels that they must have."""

    query: str
    labels: tuple[str, ...]


def needs(expression: str) -> Iterator[Need]:
    """Everything the expression relies on. Raises ValueError when it is no PromQL."""
    yield from _walk(parser.parse(expression))


def selectors(expression: str) -> Iterator[Any]:
    """Its vector selectors. Raises ValueError when it is no PromQL."""
    yield from _selectors(parser.parse(expression))


def written(selector: Any) -> str:
    """A selector without its offset."""
    matchers = ",".join(
        f"{one.name}{_OPERATORS[str(one.op)]}{_quoted(one.value)}" for one in selector.matchers.matchers
    )
    return f"{selector.name or ''}{{{matchers}}}"


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _children(node: Any) -> Iterator[Any]:
    if isinstance(node, parser.MatrixSelector):
        yield node.vector_selector
    elif isinstance(node, parser.BinaryExpr):
        yield from (node.lhs, node.rhs)
    elif isinstance(node, parser.Call):
        yield from node.args
    elif isinstance(node, parser.AggregateExpr | parser.ParenExpr | parser.UnaryExpr | parser.SubqueryExpr):
        yield node.expr


def _selectors(node: Any) -> Iterator[Any]:
    if isinstance(node, parser.VectorSelector):
        yield node
    for child in _children(node):
        yield from _selectors(child)


def _walk(node: Any) -> Iterator[Need]:
    if isinstance(node, parser.VectorSelector):
        yield Need(written(node), tuple(one.name for one in node.matchers.matchers))
    elif isinstance(node, parser.AggregateExpr) and node.modifier is not None:
        assert node.modifier.type == parser.AggModifierType.By, "say what is kept, not what is dropped"
        yield Need(node.expr.prettify(), tuple(node.modifier.labels))
    elif isinstance(node, parser.BinaryExpr) and node.modifier is not None and node.modifier.matching is not None:
        yield from _matching(node)
    elif isinstance(node, parser.Call):
        yield from _called(node)
    for child in _children(node):
        yield from _walk(child)


def _matching(node: Any) -> Iterator[Need]:
    assert node.modifier.matching.type == parser.LabelModifierType.Include, "say what is matched, not what is ignored"
    on = tuple(node.modifier.matching.labels)
    brought = tuple(node.modifier.group_labels or ())
    left = node.modifier.card == parser.VectorMatchCardinality.ManyToOne
    yield Need(node.lhs.prettify(), on if left else (*on, *brought))
    yield Need(node.rhs.prettify(), (*on, *brought) if left else on)


def _called(node: Any) -> Iterator[Need]:
    if node.func.name == "histogram_quantile":
        yield Need(node.args[1].prettify(), ("le",))
    if node.func.name == "label_replace":
        yield Need(node.args[0].prettify(), (node.args[3].val,))
        yield Need(node.prettify(), (node.args[1].val,))
