"""Validation of proposed plans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from service.features import operations as op
from service.features.faults import Fault
from service.features.model import ColumnProfile, ExtractionOptions, FeaturePlan, Grain, PlannedFeature, Profile
from service.features.operations import AnyOperation, Predicate
from service.features.plan import validate

COLUMNS: tuple[tuple[str, Any, str], ...] = (
    ("user", "identifier", "VARCHAR"),
    ("at", "datetime", "TIMESTAMP"),
    ("amount", "numeric", "DOUBLE"),
    ("items", "integer", "BIGINT"),
    ("country", "categorical", "VARCHAR"),
    ("grade", "categorical", "BIGINT"),
    ("returned", "boolean", "BOOLEAN"),
    ("note", "text", "VARCHAR"),
    ("email", "categorical", "VARCHAR"),
)


def profile(rows: int = 1000) -> Profile:
    """A profile of the columns above; the e-mail is personal."""
    columns = [
        ColumnProfile(name, place, logical, physical, 0.0, 10, personal=name == "email")
        for place, (name, logical, physical) in enumerate(COLUMNS)
    ]
    return Profile(rows, tuple(columns), "fingerprint")


def plan(
    *operations: AnyOperation, grain: Grain = "row", entity: str | None = None, time: str | None = None
) -> FeaturePlan:
    """A plan of these operations, with plain names."""
    features = tuple(PlannedFeature(f"f{index}", "A feature.", one) for index, one in enumerate(operations))
    return FeaturePlan(grain, features, entity, time)


def faults(proposed: FeaturePlan, **options: Any) -> list[tuple[str, str]]:
    """Reasons and paths of what is found."""
    return [(fault.reason, fault.field) for fault in validate(proposed, profile(), ExtractionOptions(**options))]


def only(found: Sequence[Fault]) -> Fault:
    """The one fault there is."""
    assert len(found) == 1
    return found[0]


def test_a_sound_plan_has_no_fault() -> None:
    """Operations on fitting columns, at both grains, may run."""
    row = plan(op.ZScore("amount", "country"), op.RollingCount("user", "at", 7), entity="user", time="at")
    entity = plan(op.Count(last_days=7), op.Recency("at"), grain="entity", entity="user", time="at")
    assert faults(row) == []
    assert faults(entity, entity="user", time="at", target="returned") == []


def test_an_unknown_column_is_named_with_its_neighbours() -> None:
    """The message proposes near names, whatever their case, and lists the columns."""
    fault = only(validate(plan(op.Value("Amuont")), profile(), ExtractionOptions()))
    assert (fault.reason, fault.field) == ("unknown_column", "features[0].operation.column")
    assert "did you mean 'amount'" in fault.message
    assert "'country'" in fault.message


def test_a_long_list_of_columns_is_cut() -> None:
    """Hundreds of columns with long names do not make a message of megabytes."""
    columns = tuple(ColumnProfile(f"{index}" * 200, index, "numeric", "DOUBLE", 0.0, 1) for index in range(120))
    message = only(validate(plan(op.Value("nothing")), Profile(1, columns, "f"), ExtractionOptions())).message
    assert "and 70 more" in message
    assert len(message) < 6_000


@pytest.mark.parametrize(
    ("operation", "field"),
    [
        (op.Logarithm("country"), "column"),
        (op.Ratio("amount", "note"), "denominator"),
        (op.DatePartOf("amount", "hour"), "column"),
        (op.TextLength("amount"), "column"),
        (op.Value("note"), "column"),
        (op.ZScore("amount", "at"), "group"),
    ],
)
def test_a_column_of_another_type_is_a_fault(operation: AnyOperation, field: str) -> None:
    """Each operation takes the logical types its registry row names, and the fault points at the field."""
    assert faults(plan(operation)) == [("type_mismatch", f"features[0].operation.{field}")]


def test_a_category_stored_as_numbers_serves_as_a_number() -> None:
    """A grade from 1 to 5 can be averaged; a country cannot."""
    assert faults(plan(op.Aggregate("grade", "mean"), grain="entity", entity="user")) == []
    assert faults(plan(op.Aggregate("country", "mean"), grain="entity", entity="user")) == [
        ("type_mismatch", "features[0].operation.column")
    ]


def test_an_operation_of_the_other_grain_is_a_fault() -> None:
    """Row operations do not go into entity plans, nor the other way round."""
    assert faults(plan(op.Value("amount"), grain="entity", entity="user")) == [("grain", "features[0].operation")]
    assert faults(plan(op.Count())) == [("grain", "features[0].operation")]


def test_an_entity_plan_names_its_entity() -> None:
    """The entity must be named, exist, and be fit to tell rows apart."""
    assert faults(plan(op.Count(), grain="entity")) == [("grain", "entity")]
    assert faults(plan(op.Count(), grain="entity", entity="nobody")) == [("unknown_column", "entity")]
    assert faults(plan(op.Count(), grain="entity", entity="amount")) == [("type_mismatch", "entity")]


def test_the_time_column_is_a_datetime() -> None:
    """A number is no time."""
    assert faults(plan(op.Value("amount"), time="items")) == [("type_mismatch", "time")]


def test_operations_agree_with_the_plan_on_entity_and_time() -> None:
    """An operation's own entity and time are the plan's; a plan without them is told to set them."""
    differing = plan(op.CumulativeCount("country", "at"), entity="user", time="at")
    assert faults(differing) == [("grain", "features[0].operation.entity")]
    fault = only(validate(plan(op.Recency("at"), grain="entity", entity="user"), profile(), ExtractionOptions()))
    assert (fault.reason, fault.field) == ("other", "features[0].operation.time")
    assert "set it on the plan" in fault.message


def test_the_last_days_need_a_time() -> None:
    """Days cannot be counted back without a time column."""
    last = plan(op.Count(last_days=7), grain="entity", entity="user")
    assert faults(last) == [("other", "features[0].operation.last_days")]


def test_the_clients_choice_of_entity_and_time_stands() -> None:
    """What options fix, a plan may not change."""
    proposed = plan(op.Value("amount"), entity="country", time=None)
    assert faults(proposed, entity="user", time="at") == [("grain", "entity"), ("other", "time")]


@pytest.mark.parametrize(
    ("proposed", "field"),
    [
        (plan(op.Value("amount")), "features[0].operation.column"),
        (plan(op.Flag((Predicate("amount", "gt", (1,)),))), "features[0].operation.where[0].column"),
        (plan(op.Product("items", "amount")), "features[0].operation.right"),
    ],
)
def test_no_feature_reads_the_target(proposed: FeaturePlan, field: str) -> None:
    """Neither an operation's column nor a predicate's may be the target."""
    assert faults(proposed, target="amount") == [("leakage", field)]


def test_the_target_is_neither_entity_nor_time() -> None:
    """Keys are published, so they would give the target away."""
    assert faults(plan(op.Value("amount"), entity="country"), target="country") == [("leakage", "entity")]
    assert faults(plan(op.Value("amount"), time="at"), target="at") == [("leakage", "time")]


def test_only_an_out_of_fold_mean_may_read_the_target() -> None:
    """It may name the target as such, and neither it nor another may group by it."""
    assert faults(plan(op.OutOfFoldMean(("country",), "returned")), target="returned") == []
    grouped = plan(op.OutOfFoldMean(("country", "returned"), "amount"))
    assert faults(grouped, target="returned") == [("leakage", "features[0].operation.groups[1]")]
    frequency = plan(op.OutOfFoldFrequency(("returned",)))
    assert faults(frequency, target="returned") == [("leakage", "features[0].operation.groups[0]")]
    itself = plan(op.OutOfFoldMean(("returned",), "returned"))
    assert ("other", "features[0].operation.groups") in faults(itself)


def test_names_are_each_used_once_and_are_not_the_keys() -> None:
    """A repeated name and the entity's name, whatever its case, are faults."""
    features = (
        PlannedFeature("total", "One.", op.Value("amount")),
        PlannedFeature("total", "Two.", op.Value("items")),
        PlannedFeature("user", "Three.", op.IsMissing("note")),
    )
    columns = (*profile().columns, ColumnProfile("USER", 9, "identifier", "VARCHAR", 0.0, 10))
    found = validate(FeaturePlan("row", features, "USER"), Profile(10, columns, "f"), ExtractionOptions())
    assert [(fault.reason, fault.field) for fault in found] == [
        ("name", "features[1].name"),
        ("name", "features[2].name"),
    ]


def test_the_same_operation_twice_is_a_fault() -> None:
    """The second of two equal operations points back at the first."""
    fault = only(validate(plan(op.Value("amount"), op.Value("amount")), profile(), ExtractionOptions()))
    assert fault.field == "features[1].operation"
    assert "features[0]" in fault.message


def test_more_features_than_asked_for_are_a_fault() -> None:
    """The client's maximum is kept."""
    assert faults(plan(op.Value("amount"), op.Value("items")), max_features=1) == [("cost", "features")]


def test_a_plan_that_sorts_too_much_is_refused() -> None:
    """Windows, ranks, medians and distinct counts are bounded by the rows they go through."""
    ranks = plan(op.PercentRank("amount"), op.GroupStatistic("amount", "country", "median"), op.Value("items"))
    fault = only(validate(ranks, profile(300_000_000), ExtractionOptions()))
    assert (fault.reason, fault.field) == ("cost", "features")
    assert "at most 1" in fault.message
    assert validate(ranks, profile(1_000_000), ExtractionOptions()) == ()


@pytest.mark.parametrize(
    ("predicate", "expected"),
    [
        (Predicate("amount", "eq", ()), ("schema", "values")),
        (Predicate("amount", "eq", (1, 2)), ("schema", "values")),
        (Predicate("amount", "is_null", (1,)), ("schema", "values")),
        (Predicate("amount", "in", ()), ("schema", "values")),
        (Predicate("amount", "eq", ("12",)), ("type_mismatch", "values[0]")),
        (Predicate("amount", "eq", (True,)), ("type_mismatch", "values[0]")),
        (Predicate("amount", "lt", (float("inf"),)), ("type_mismatch", "values[0]")),
        (Predicate("items", "in", (1, 2**70)), ("type_mismatch", "values[1]")),
        (Predicate("country", "gt", ("A",)), ("type_mismatch", "values[0]")),
        (Predicate("country", "eq", (True,)), ("type_mismatch", "values[0]")),
        (Predicate("country", "eq", ("a\0b",)), ("type_mismatch", "values[0]")),
        (Predicate("returned", "eq", ("maybe",)), ("type_mismatch", "values[0]")),
        (Predicate("returned", "eq", (1.0,)), ("type_mismatch", "values[0]")),
        (Predicate("returned", "lt", (True,)), ("type_mismatch", "values[0]")),
        (Predicate("at", "ge", ("yesterday",)), ("type_mismatch", "values[0]")),
        (Predicate("at", "ge", (5,)), ("type_mismatch", "values[0]")),
        (Predicate("nowhere", "eq", (5,)), ("unknown_column", "column")),
    ],
)
def test_predicates_fit_their_columns(predicate: Predicate, expected: tuple[str, str]) -> None:
    """The number of values and their types follow from comparison and column; the value is never repeated."""
    found = only(validate(plan(op.Flag((predicate,))), profile(), ExtractionOptions()))
    assert (found.reason, found.field) == (expected[0], f"features[0].operation.where[0].{expected[1]}")
    assert "yesterday" not in found.message


@pytest.mark.parametrize(
    "predicate",
    [
        Predicate("amount", "le", (1.5,)),
        Predicate("items", "not_in", (1, -2)),
        Predicate("grade", "ge", (3,)),
        Predicate("country", "in", ("NL", 31)),
        Predicate("returned", "eq", ("True",)),
        Predicate("returned", "ne", (0,)),
        Predicate("at", "lt", ("2024-01-31T12:00:00+02:00",)),
        Predicate("at", "ge", ("2024-01-31",)),
        Predicate("note", "not_null"),
    ],
)
def test_fitting_predicates_pass(predicate: Predicate) -> None:
    """Numbers, texts, truth values and ISO 8601 times are taken for their columns."""
    assert faults(plan(op.Flag((predicate,)))) == []


def test_personal_values_are_not_published() -> None:
    """A personal column may count and be a key, but its values never make a feature."""
    assert faults(plan(op.Value("email"))) == [("other", "features[0].operation.column")]
    entity = {"grain": "entity", "entity": "email", "time": "at"}
    assert faults(plan(op.LastValue("email", "at"), **entity)) == [("other", "features[0].operation.column")]
    assert faults(plan(op.CountDistinct("email"), **entity)) == []
    assert faults(plan(op.TextLength("email"))) == []


def test_an_empty_span_of_hours_is_a_fault() -> None:
    """From 9 to 9 is no span."""
    proposed = plan(op.HourShare("at", 9, 9), grain="entity", entity="user", time="at")
    assert faults(proposed) == [("other", "features[0].operation.to_hour")]
