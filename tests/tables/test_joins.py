"""Which datasets could be joined to one, by what is known of their columns."""

from __future__ import annotations

import pytest

from service.features.joins import MAX_SUGGESTED, OtherColumn, SuggestedJoin, suggested
from service.features.model import ColumnProfile, Dataset
from tests.tables.support import Given

ORDERS = Given("orders", {"order_id": "BIGINT", "customer": "VARCHAR", "at": "TIMESTAMP", "amount": "DOUBLE"}, [
    (1, "a", None, 1.0), (2, "a", None, 2.0), (3, "b", None, 3.0),
], ("order_id",)).dataset  # fmt: skip


def others(*given: Given) -> list[OtherColumn]:
    """Return all columns of other datasets."""
    datasets: list[Dataset] = [one.dataset for one in given]
    return [OtherColumn(one.id, one.profile.row_count, column) for one in datasets for column in one.profile.columns]


def test_keys_of_the_same_name_are_suggested() -> None:
    """What has one row for a value is looked up; what belongs to rows of this one is aggregated; times join nothing."""
    customers = Given("customers", {"Customer": "VARCHAR", "at": "TIMESTAMP"}, [("a", None), ("b", None)])
    items = Given("items", {"order_id": "BIGINT", "amount": "DOUBLE"}, [(1, 1.0), (1, 2.0), (2, 3.0)])
    assert suggested(ORDERS, others(customers, items)) == (
        SuggestedJoin("customers", "Customer", "customer", "parent"),
        SuggestedJoin("items", "order_id", "order_id", "child"),
    )


@pytest.mark.parametrize(
    "other",
    [
        Given("logins", {"customer": "VARCHAR"}, [("a",), ("a",)]),
        Given("numbers", {"customer": "BIGINT"}, [(1,), (2,)]),
        Given("empty", {"order_id": "VARCHAR"}, []),
    ],
    ids=lambda given: given.name,
)
def test_what_would_multiply_rows_or_never_match_is_not(other: Given) -> None:
    """A key of neither side, and values of different types."""
    assert suggested(ORDERS, others(other)) == ()


def test_suggestions_are_bounded() -> None:
    """However many datasets there are."""
    column = ColumnProfile("order_id", 0, "identifier", "BIGINT", 0.0, 9)
    many = [OtherColumn(f"d{place}", 9, column) for place in range(2 * MAX_SUGGESTED)]
    assert len(suggested(ORDERS, many)) == MAX_SUGGESTED
