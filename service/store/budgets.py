"""Store what principals spend on models: a row of about 100 bytes for each principal and day, kept for good."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from service.features.ports import Spending, Spent
from service.store.tables import USD_PLACES, model_spending
from service.store.unit_of_work import SqlStore

_KEY = (model_spending.c.principal, model_spending.c.day)
_SUMS = (
    model_spending.c.input_tokens,
    model_spending.c.output_tokens,
    model_spending.c.cost_usd,
    model_spending.c.unpriced_calls,
)


class PostgresBudgets:
    """Implement `ports.Budgets`, each call in a transaction of its own."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def spent(self, principal: str, day: date) -> Spent:
        """Return what the principal has spent on that day. Raises DependencyUnavailable."""
        statement = select(*_SUMS).where(model_spending.c.principal == principal, model_spending.c.day == day)
        async with self._store.begin() as work:
            row = (await work.connection.execute(statement)).mappings().one_or_none()
        return Spent() if row is None else _spent(row)

    async def charge(self, principal: str, day: date, spending: Spending) -> tuple[Spent, Spent]:
        """Add to the day's spending; returns it before and after. Raises DependencyUnavailable.

        The row is locked until the addition is committed, so concurrent charges of one day are serialised.
        """
        amounts = {
            "input_tokens": spending.input_tokens,
            "output_tokens": spending.output_tokens,
            "cost_usd": round(Decimal(spending.cost_usd), USD_PLACES),
            "unpriced_calls": spending.unpriced_calls,
        }
        statement = insert(model_spending).values(principal=principal, day=day, updated_at=func.now(), **amounts)
        sums = {column.name: column + statement.excluded[column.name] for column in _SUMS}
        adding = statement.on_conflict_do_update(index_elements=_KEY, set_={**sums, "updated_at": func.now()})
        async with self._store.begin() as work:
            after = (await work.connection.execute(adding.returning(*_SUMS))).mappings().one()
        return _spent(after, less=amounts), _spent(after)


def _spent(row: Mapping[Any, Any], *, less: Mapping[str, Any] | None = None) -> Spent:
    """Return the row's sums, less the given amounts; both are exact as decimals."""
    left = {name: value - (less or {}).get(name, 0) for name, value in row.items()}
    return Spent(left["input_tokens"] + left["output_tokens"], float(left["cost_usd"]), left["unpriced_calls"])
