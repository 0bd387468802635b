"""What generated tables are made of."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

Cell = str | int | float | None
Table = list[tuple[str, list[Cell]]]
"""Columns by header, in order; headers may repeat, as they do in real files."""

END = datetime(2026, 3, 31, 23, 50)  # noqa: DTZ001 - files carry no time zone as a rule


def column(count: int, cell: Callable[[int], Cell]) -> list[Cell]:
    """One column: the cell of each row number."""
    return [cell(row) for row in range(count)]


def weighted(chance: random.Random, **weights: float) -> str:
    """One of the names, by weight; `_` stands for a space in none of them."""
    return chance.choices(list(weights), list(weights.values()))[0]


def instant(chance: random.Random, days: int) -> datetime:
    """A moment of the `days` before END, to the second, more often by day than by night."""
    moment = END - timedelta(seconds=chance.randrange(days * 86_400))
    return moment.replace(hour=min(23, max(0, round(chance.gauss(14, 4.5)))))


def text(moment: datetime) -> str:
    """As most files write it."""
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def day(moment: datetime) -> str:
    """A date without a time."""
    return moment.strftime("%Y-%m-%d")


def money(chance: random.Random, median: float) -> float:
    """An amount with a long tail."""
    return round(chance.lognormvariate(0, 0.9) * median, 2)


def often(chance: random.Random, kinds: int) -> int:
    """1 … kinds, small numbers far more often: customers and products are never equal."""
    return (
        min(kinds, 1 + int(chance.paretovariate(1.1) * kinds / 25))
        if chance.random() < 0.4
        else chance.randint(1, kinds)
    )


def sentences(chance: random.Random, parts: Sequence[Sequence[str]], least: int, most: int) -> str:
    """A text of some sentences, each put together of one piece of each part."""
    return " ".join(" ".join(chance.choice(part) for part in parts) for _ in range(chance.randint(least, most)))
