"""Spelling statements for engines."""

from __future__ import annotations

import re
from typing import get_args

import pytest
import sqlglot
from sqlglot import exp

from service.engines.sql.compile import compile_plan
from service.engines.sql.dialects import DIALECTS, DialectName, render
from service.engines.sql.dialects.spelling import Spelling
from service.engines.sql.template import Primitive, column, template
from service.features.operations import REGISTRY, AnyOperation, OperationSpec
from service.features.operations.expression import PRIMITIVES
from service.features.operations.operation import example_of
from tests.operations.engines import plan, profile
from tests.operations.golden import COLUMNS, ENTITY_CASES, ROW_CASES
from tests.operations.test_properties import profile as orders

NATIVE = {"duckdb": {"EPOCH_US", "MEDIAN"}, "spark": {"MEDIAN"}}
"""Primitives that a dialect knows by the same name."""
OPERATIONS = [operation for operation, _ in (*ROW_CASES, *ENTITY_CASES)]


def call(name: str) -> exp.Expr:
    """A call of the primitive on columns named like its arguments."""
    arguments = PRIMITIVES[name][0]
    text = f"{name}({', '.join(f':{argument}' for argument in arguments)})"
    return template(text, **{argument: column(argument) for argument in arguments})


def calls(name: str, text: str) -> bool:
    """Whether the text calls a function of that name."""
    return re.search(rf"\b{name}\(", text) is not None


@pytest.mark.parametrize("dialect", get_args(DialectName))
@pytest.mark.parametrize("name", PRIMITIVES)
def test_every_primitive_is_spelled_in_every_dialect(name: str, dialect: DialectName) -> None:
    """The spelled call parses in its dialect, reads each argument, and holds the primitive's name only where native."""
    text = render(call(name), dialect)
    tree = sqlglot.parse_one(text, read=dialect)
    assert {node.name for node in tree.find_all(exp.Column)} >= set(PRIMITIVES[name][0])
    assert calls(name, text) == (name in NATIVE[dialect])


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("dialect", get_args(DialectName))
def test_every_operation_is_spelled(operation: AnyOperation, dialect: DialectName) -> None:
    """The statement parses in its dialect, reads the same columns, and holds no primitive of another's."""
    compiled = compile_plan(plan([operation], operation.grain), profile(COLUMNS)).statement()
    text = render(compiled, dialect)
    columns = {node.name for node in sqlglot.parse_one(text, read=dialect).find_all(exp.Column)}
    assert columns >= {node.name for node in compiled.find_all(exp.Column)}
    called = {node.name for node in compiled.find_all(Primitive)}
    assert not [name for name in called - NATIVE[dialect] if calls(name, text)]
    foreign = ("EPOCH_US", "ISFINITE", "ISODOW", "INT128", "HUGEINT", "QUANTILE_CONT", "ARG_MAX", '"')
    assert dialect == "duckdb" or not [word for word in foreign if word in text]


@pytest.mark.parametrize("spec", REGISTRY.values(), ids=lambda spec: spec.kind)
@pytest.mark.parametrize("dialect", get_args(DialectName))
def test_every_example_is_spelled(spec: OperationSpec, dialect: DialectName) -> None:
    """The statement parses in its dialect and holds no primitive of another's."""
    compiled = compile_plan(plan([example_of(spec)], spec.grain), orders()).statement()
    text = render(compiled, dialect)
    assert sqlglot.parse_one(text, read=dialect)
    called = {node.name for node in compiled.find_all(Primitive)}
    assert not [name for name in called - NATIVE[dialect] if calls(name, text)]


def test_a_spelling_keeps_its_meaning_beside_other_operators() -> None:
    """A primitive that is spelled as a sum stays one factor of a product."""
    assert render(template(":n * ISO_WEEKDAY(:t)", n=2, t=column("t")), "spark") == "2 * (WEEKDAY(`d`.`t`) + 1)"


def test_a_dialect_must_spell_every_primitive() -> None:
    """A primitive that is missing, and one that does not exist, are errors when the dialect is imported."""
    complete = dict.fromkeys(PRIMITIVES, "NULL")
    with pytest.raises(ValueError, match="MEDIAN"):
        Spelling(DIALECTS["spark"], {name: text for name, text in complete.items() if name != "MEDIAN"})
    with pytest.raises(ValueError, match="FOO"):
        Spelling(DIALECTS["spark"], complete | {"FOO": "NULL"})


@pytest.mark.parametrize("text", ["LIST_AGG_FOO(:x)", "QUANTILE(:x)", "EPOCH_US(:x, :x)"])
def test_what_is_no_primitive_does_not_compile(text: str) -> None:
    """An unknown function, or a primitive with another number of arguments, fails before anything is computed."""
    with pytest.raises(ValueError, match="neither standard SQL nor a primitive"):
        template(text, x=column("x"))
