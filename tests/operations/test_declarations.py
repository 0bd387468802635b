"""What operations declare, and what is derived from it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any, get_args

import msgspec
import pytest
from msgspec.structs import fields

import service.features.operations as package
from service.agents.instructions import write_instructions
from service.agents.output import json_schema
from service.engines.sql.compile import compile_plan
from service.engines.sql.dialects import render
from service.features import operations as op
from service.features.model import ColumnProfile, ExtractionOptions, FeatureEvidence, FeatureStatistics, PlannedFeature
from service.features.operations import REGISTRY, Operation, OperationSpec
from service.features.operations.expression import Expression, Rows
from service.features.operations.operation import (
    Fits,
    OperationIncomplete,
    RowOperation,
    declaration,
    named_columns,
    predicates,
    source_columns,
    spec_of,
)
from service.features.operations.parameters import AnyColumn, NumberColumn
from service.features.operations.registry import FAMILIES, operations_in, operations_version, register, union_of
from service.features.operations.values import ValueOperation
from service.features.plan import MAX_SORTED_CELLS, validate
from service.features.profile import Profile
from service.features.quality import BARS, WEIGHTS, Candidate
from tests.operations.engines import plan, profile, run_duckdb, values
from tests.operations.golden import COLUMNS, ROWS, N
from tools.operations_document import FITTED, document, entry, signature

DOCUMENT = Path(__file__).parents[2] / "docs" / "operations.md"
COLUMN_FIELDS = {
    "column", "left", "right", "start", "end", "group", "entity", "time", "columns", "groups", "other", "weight",
    "latitude", "longitude", "to_latitude", "to_longitude", "target",
}  # fmt: skip
RATIO_FIELDS = {"numerator", "denominator"}


@pytest.mark.parametrize("kind", sorted(REGISTRY))
def test_every_column_field_is_declared(kind: str) -> None:
    """The columns of an operation are exactly its fields that hold a column's name."""
    spec = REGISTRY[kind]
    named = {field.name for field in fields(spec.type)}
    columns = named & COLUMN_FIELDS | (named & RATIO_FIELDS if kind in {"ratio", "ratio_of_sums"} else set())
    assert set(spec.columns) == columns


@pytest.mark.parametrize("kind", sorted(REGISTRY))
def test_what_is_told_of_an_operation_is_told_in_words(kind: str) -> None:
    """Null rule, formula and source say something, and the summary is a sentence."""
    spec = REGISTRY[kind]
    assert spec.summary.endswith(".")
    assert all(len(words) > 2 or kind == "value" for words in (spec.nulls, spec.formula, spec.source))


def test_a_columns_own_type_means_its_own_values() -> None:
    """An operation without a type of its own publishes the column's values."""
    assert {kind for kind, spec in REGISTRY.items() if spec.dtype is None} <= {
        kind for kind, spec in REGISTRY.items() if spec.publishes_values
    }


@pytest.mark.parametrize("kind", sorted(REGISTRY))
def test_what_is_fitted_is_what_other_rows_decide(kind: str) -> None:
    """Exactly the operations that read all rows of the dataset keep something of it."""
    spec = REGISTRY[kind]
    assert (spec.fits == "nothing") == (spec.sees != "dataset")


def test_all_that_can_be_fitted_is_explained() -> None:
    """The page has a phrase for each word."""
    assert FITTED.keys() == {*get_args(Fits)}


def test_every_module_of_the_folder_is_read() -> None:
    """A file that defines operations is one of the families: none is forgotten."""
    folder = Path(package.__file__).parent
    with_classes = {
        path.stem for path in folder.glob("*.py") if 'tag="' in path.read_text() and "class " in path.read_text()
    }
    assert with_classes - {"operation"} == {family.__name__.rpartition(".")[2] for family in FAMILIES}


def test_operations_are_exported_by_their_names() -> None:
    """Every class can be imported from the package."""
    assert all(getattr(op, spec.type.__name__) is spec.type for spec in REGISTRY.values())


def test_source_columns_are_each_named_once_in_order() -> None:
    """Columns of fields come first, then those of predicates; none twice."""
    where = (op.Predicate("country", "eq", ("NL",)), op.Predicate("amount", "gt", (1,)))
    assert source_columns(op.Aggregate("amount", "sum", where)) == ("amount", "country")
    assert source_columns(op.RollingCount("user", "at", 7, where)) == ("user", "at", "country", "amount")


def test_an_open_group_is_no_column() -> None:
    """An optional column that is not given is not named."""
    assert named_columns(op.ZScore("amount")) == {"column": "amount"}
    assert named_columns(op.ZScore("amount", "country")) == {"column": "amount", "group": "country"}


def test_predicates_are_found_by_place() -> None:
    """Both conjunctions of a rate are found, each predicate under its place."""
    clicked, seen = op.Predicate("event", "eq", ("click",)), op.Predicate("event", "eq", ("view",))
    assert predicates(op.Rate((clicked,), (seen,))) == {"numerator[0]": clicked, "denominator[0]": seen}
    assert predicates(op.RatioOfSums("a", "b")) == {}


def test_spec_of_an_instance() -> None:
    """An operation leads to what its class declares."""
    assert spec_of(op.Tenure("at")).kind == "tenure"


def test_a_median_sorts_whatever_else_the_operation_costs() -> None:
    """The cost of an aggregate depends on its function."""
    assert op.Aggregate("amount", "median").sorts()
    assert not op.Aggregate("amount", "mean").sorts()


# -------------------------------------------------------------------------------------------------- what is forgotten


class Whole(ValueOperation, frozen=True, tag="whole"):
    """Everything that an operation needs."""

    column: NumberColumn

    gives = "number"
    nulls = "never"
    formula = "x"
    source = "a test"
    example = '{"column": "amount"}'

    def compile(self, rows: Rows) -> Expression:
        """Read the column."""
        return rows.number(self.column)


class WithoutNulls(RowOperation, frozen=True, tag="without_nulls"):
    """Says neither when it is null nor what it costs."""

    gives = "number"
    sees = "row"
    fits = "nothing"
    publishes_values = follows_calendar = False
    formula = source = "x"
    example = "{}"

    def compile(self, rows: Rows) -> Expression:
        """Give a number."""
        return rows.sql("1")


class WithoutTag(ValueOperation, frozen=True):
    """Names no kind."""

    gives = "number"
    nulls = formula = source = "x"
    example = "{}"

    def compile(self, rows: Rows) -> Expression:
        """Give a number."""
        return rows.sql("1")


class WithoutDocstring(Whole, frozen=True, tag="without_docstring"):  # noqa: D101 -- that is what it lacks
    pass


class WithoutColumnTypes(Whole, frozen=True, tag="without_types"):
    """Has a field of text that says nothing of columns."""

    other: str | None = None


class WithoutColumn(ValueOperation, frozen=True, tag="without_column"):
    """Gives the type of a column that it does not have."""

    other: AnyColumn

    gives = None
    nulls = formula = source = "x"
    example = "{}"

    def compile(self, rows: Rows) -> Expression:
        """Read the column."""
        return rows.raw(self.other)


class WithoutCompile(ValueOperation, frozen=True, tag="without_compile"):
    """Does not say how it is computed."""

    gives = "number"
    nulls = formula = source = "x"
    example = "{}"


@pytest.mark.parametrize(
    ("operation", "missing"),
    [
        (WithoutNulls, r"WithoutNulls does not declare `cost`, `nulls`"),
        (WithoutTag, 'WithoutTag names no kind: declare `tag="…"`'),
        (WithoutDocstring, "WithoutDocstring has no docstring"),
        (WithoutColumnTypes, "WithoutColumnTypes does not say which columns the field `other` accepts"),
        (WithoutColumn, "WithoutColumn gives its column's type and has no field `column`"),
        (WithoutCompile, "WithoutCompile has no method `compile`"),
    ],
)
def test_a_forgotten_declaration_is_an_error(operation: type[Operation], missing: str) -> None:
    """The error names the class and what it lacks."""
    with pytest.raises(OperationIncomplete, match=missing):
        declaration(operation)


def test_two_operations_of_one_kind_are_an_error() -> None:
    """A kind names one operation on the wire."""
    with pytest.raises(OperationIncomplete, match="kind 'whole' of another"):
        register([Whole, Whole])


# ------------------------------------------------------------------------------------------- one class is all it takes

HALF = '''
    """A family that a test adds."""

    from __future__ import annotations

    from typing import Annotated

    from msgspec import Meta

    from service.features.operations.expression import Expression, Rows
    from service.features.operations.history import HistoryOperation
    from service.features.operations.parameters import EntityColumn, PublishedColumn, TimeColumn


    class Penultimate(HistoryOperation, frozen=True, tag="penultimate"):
        """The value two rows before, with a length that means nothing."""

        column: PublishedColumn
        entity: EntityColumn
        time: TimeColumn
        length: Annotated[int, Meta(ge=1, le=9)] = 3

        gives = None
        publishes_values = True
        follows_calendar = True
        nulls = "where there are fewer than two earlier rows"
        formula = "x of the row before the previous one"
        source = "a test"
        example = '{"column": "amount", "entity": "user", "time": "at"}'

        def faults(self):
            """A length that is refused."""
            if self.length == 8:
                yield "length", "eight is too long"

        def compile(self, rows: Rows) -> Expression:
            """Look two rows back."""
            return rows.history("LAG(:x, 2) OVER earlier", self.entity, self.time, x=rows.raw(self.column))
'''


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A file with one class, read as a further family of the registry."""
    path = tmp_path / "added_family.py"
    path.write_text(dedent(HALF).strip() + "\n")
    spec = importlib.util.spec_from_file_location("added_family", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "added_family", module)
    spec.loader.exec_module(module)
    for kind, added in register(operations_in(module)).items():
        monkeypatch.setitem(REGISTRY, kind, added)
    return module


@pytest.fixture
def added(family: ModuleType) -> OperationSpec:
    """What the class declares."""
    return REGISTRY["penultimate"]


def operation(**fields: Any) -> Operation:
    """An instance of the added class."""
    known = {"column": "x", "entity": "user", "time": "at"}
    return REGISTRY["penultimate"].type(**known | fields)


def test_documentation_follows_the_class(family: ModuleType, added: OperationSpec) -> None:
    """The page has the family's title, the operation's section and its row of the overview."""
    page = document(REGISTRY, (*FAMILIES, family))
    assert "## A family that a test adds\n" in page
    assert entry(added) in page
    assert "| [penultimate](#penultimate) | row | the column's type | history | nothing | sort | yes | yes |" in page
    assert signature(added) == "penultimate(column: value, entity: entity, time: time, length?) → the column's type"
    assert "  - `length`: integer, ≥ 1, ≤ 9; default 3" in page


def test_the_schema_and_the_wire_follow_the_class(added: OperationSpec) -> None:
    """The union decodes it by its kind, with the fields' bounds, and the tool's schema describes it."""
    union = union_of(REGISTRY.values())
    sent = b'{"kind": "penultimate", "column": "x", "entity": "user", "time": "at", "length": 4}'
    assert msgspec.json.decode(sent, type=union) == operation(length=4)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(sent.replace(b"4", b"10"), type=union)
    assert json_schema(added.type)["properties"]["length"] == {
        "type": "integer", "minimum": 1, "maximum": 9, "default": 3
    }  # fmt: skip


def test_the_prompt_and_the_version_follow_the_class(added: OperationSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """The instructions name it under its grain; plans that were cached without it are not served."""
    assert added.kind in write_instructions(BARS, WEIGHTS)
    with_it = operations_version.__wrapped__()
    monkeypatch.delitem(REGISTRY, added.kind)
    assert operations_version.__wrapped__() != with_it


def test_validation_follows_the_class(added: OperationSpec) -> None:
    """Column types, personal values, its own faults, grain and cost are checked without a line of their own."""

    def found(**fields: Any) -> list[tuple[str, str]]:
        faults = validate(plan([operation(**fields)], "row"), known, ExtractionOptions(target="w"))
        return [(fault.reason, fault.field.removeprefix("features[0].operation")) for fault in faults]

    known = profile(COLUMNS)
    assert found() == []
    assert found(column="at") == [("type_mismatch", ".column")]
    assert found(column="nowhere") == [("unknown_column", ".column")]
    assert found(column="w") == [("leakage", ".column")]
    assert found(time="until") == [("other", ".time")]
    assert found(length=8) == [("other", ".length")]
    personal = [ColumnProfile("x", 0, "numeric", "DOUBLE", 0.0, 2, personal=True)]
    known = Profile(len(ROWS), (*personal, *known.columns[:2]), "f")
    assert found() == [("other", ".column")]
    known = Profile(MAX_SORTED_CELLS + 1, profile(COLUMNS).columns, "f")
    assert found() == [("cost", "features")]


def test_quality_follows_the_class(added: OperationSpec) -> None:
    """Drift says nothing of an operation that follows the calendar."""
    evidence = FeatureEvidence("f0", "number", FeatureStatistics(9, 0.0, 9), 0.0, 0.1, drift=9.0)
    assert Candidate(PlannedFeature("f0", "A feature.", operation()), evidence).drift is None


def test_computation_follows_the_class(added: OperationSpec) -> None:
    """It runs, alone and for another engine's dialect, and gives the column's type."""
    assert values(operation()) == [N, N, N, N, N, 1.0]
    assert values(operation(column="c")) == [N, N, N, N, N, "a"]
    compiled = compile_plan(plan([operation(column="c")], "row"), profile(COLUMNS))
    assert compiled.features == {"f0": "string"}
    assert "LAG(`d`.`c`, 2)" in render(compiled.statement(), "spark")
    assert run_duckdb(compiled, [], COLUMNS)["f0"] == []


def test_the_page_in_the_repository_is_the_classes() -> None:
    """`make operations` has been run since the classes were changed."""
    assert DOCUMENT.read_text(encoding="utf-8") == document()
