"""Nodes of a statement from constant text: templates with placeholders, columns, literals.

Templates are parsed once; what varies enters as a node in place of a `:name`. No name or value of a client, a dataset
or a model is ever formatted into text here: quoting is the generator's.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any, ClassVar

from sqlglot import exp, parse_one
from sqlglot.dialects.dialect import Dialect
from sqlglot.parser import Parser as StandardParser

from service.features.operations.expression import DAY, PRIMITIVES, Part
from service.features.operations.parameters import Scalar

DATASET = "dataset"
"""The table that statements read: the dataset's columns and `ROW_ID`."""
ROW_ID = "__row_id"
"""Column that ingest adds: the row's position in the source, from 0."""

Node = exp.Expr | Part


class Primitive(exp.Anonymous):
    """A call of a primitive, which each dialect spells; no other function is written as one, whatever its name."""


class PlanSql(Dialect):
    """What operations are written in: standard SQL and the primitives.

    Primitives stay calls by their own name, also where sqlglot knows a function of that name. Without a word on nulls,
    an ORDER BY has them last.
    """

    NULL_ORDERING = "nulls_are_last"

    class Parser(StandardParser):
        """Knows no function by a primitive's name."""

        FUNCTIONS: ClassVar[dict[str, Any]] = {
            name: build for name, build in vars(StandardParser)["FUNCTIONS"].items() if name not in PRIMITIVES
        }


def template(text: str, **nodes: Node) -> exp.Expr:
    """The constant `text` in PlanSql, each `:name` within it replaced by the node or literal of that name.

    Raises ValueError for a call that is neither standard SQL nor a primitive.
    """
    return fill(_parsed_plan_sql(text), nodes)


def parsed(text: str, dialect: str | type[Dialect]) -> exp.Expr:
    """The constant `text` as a tree."""
    return parse_one(text, read=dialect)


def fill(tree: exp.Expr, nodes: dict[str, Node]) -> exp.Expr:
    """A copy of the tree, each placeholder replaced by the node of its name."""
    filled = tree.copy()
    for placeholder in list(filled.find_all(exp.Placeholder)):
        closed_node = closed(node_of(nodes[placeholder.name]))
        if placeholder is filled:
            return closed_node
        placeholder.replace(closed_node)
    return filled


def node_of(part: Node) -> exp.Expr:
    """The node that a part stands for: itself, or a literal."""
    if isinstance(part, exp.Expr):
        return part
    if isinstance(part, str):
        return exp.Literal.string(part)
    if isinstance(part, int | float):
        return number(part)
    raise TypeError(f"{type(part).__name__} is no part of a statement")


def closed(node: exp.Expr) -> exp.Expr:
    """A copy that keeps its meaning beside operators of any precedence."""
    loose = isinstance(node, exp.Binary | exp.Unary | exp.In | exp.Between) and not isinstance(node, exp.Paren)
    return exp.paren(node) if loose else node.copy()


@cache
def _parsed_plan_sql(text: str) -> exp.Expr:
    tree = parsed(text, PlanSql)
    return tree.transform(_as_primitive, copy=False)


def _as_primitive(node: exp.Expr) -> exp.Expr:
    if not isinstance(node, exp.Anonymous) or isinstance(node, Primitive):
        return node
    name, arguments = node.name.upper(), node.expressions
    if name not in PRIMITIVES or len(PRIMITIVES[name][0]) != len(arguments):
        raise ValueError(f"{node.sql()} is neither standard SQL nor a primitive")
    return Primitive(this=name, expressions=arguments)


def column(name: str, table: str = "d") -> exp.Column:
    """A column by its exact name, quoted; `d` is the dataset."""
    return exp.column(name, table=table, quoted=True)


def all_columns() -> exp.Expr:
    """All columns of the table `d`."""
    return exp.Column(this=exp.Star(), table=exp.to_identifier("d"))


def named(node: exp.Expr, name: str) -> exp.Expr:
    """The node under a quoted name."""
    return exp.alias_(node, name, quoted=True)


def number(value: float) -> exp.Expr:
    """A number literal; whole days and counts are written without a fraction."""
    return exp.Literal.number(int(value) if float(value).is_integer() else value)


def microseconds(days: float) -> exp.Expr:
    """A span of days in whole microseconds, at least one."""
    return number(max(1, round(days * DAY)))


def literal(value: Scalar | datetime) -> exp.Expr:
    """A converted literal of a predicate (see `literals.convert`)."""
    if isinstance(value, datetime):
        text = exp.Literal.string(value.isoformat(sep=" ", timespec="microseconds"))
        return exp.cast(text, exp.DataType.Type.TIMESTAMP)
    if isinstance(value, bool):
        return exp.Boolean(this=value)
    return exp.Literal.string(value) if isinstance(value, str) else number(value)
