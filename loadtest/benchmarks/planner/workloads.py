"""Sentences and datasets that are plain, and such as are made to be dear."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from itertools import islice, product

from service.features.model import ColumnProfile, LogicalType, Profile, ValueCount

MAX_CHARACTERS = 10_000
"""The longest sentence that the API takes."""
_WORDS = (
    "user", "order", "price", "amount", "visit", "click", "duration", "temp", "country", "device", "rating", "spend",
    "clicks", "impressions", "store", "item", "quantity", "total", "weight", "height",
)  # fmt: skip
_TYPES: tuple[tuple[LogicalType, str], ...] = (
    ("integer", "BIGINT"), ("numeric", "DOUBLE"), ("numeric", "DOUBLE"), ("categorical", "VARCHAR"),
    ("categorical", "VARCHAR"), ("datetime", "TIMESTAMP"), ("boolean", "BOOLEAN"), ("text", "VARCHAR"),
    ("identifier", "BIGINT"),
)  # fmt: skip
NAMES: Mapping[str, Callable[[int], str]] = {
    "plain": lambda at: f"{_WORDS[at % len(_WORDS)]}_{_WORDS[at * 7 % len(_WORDS)]}_{at}",
    "similar": lambda at: f"customer_purchase_amount_{at}",
    "camel case": lambda at: "aB" * 48 + str(at),
    "unicode": lambda at: f"größe\u00c9\ufdfa{at}",
    "long": lambda at: "_".join(_WORDS[(at + n) % len(_WORDS)] for n in range(15))[:95] + str(at),
}
"""How the columns are called."""


def _repeated(part: str) -> Callable[[int], str]:
    return lambda length: (part * (length // len(part) + 1))[:length]


def _different(length: int) -> str:
    words = ("".join(letters) for letters in product("abcdefgh", repeat=4))
    return " ".join(islice(words, length // 5))


TYPICAL = "Average and total purchase amount per user in the last 7 and 30 days, click rate, without the country."
SENTENCES: Mapping[str, Callable[[int], str]] = {
    "prose": _repeated(f"{TYPICAL} "),
    "camel case": _repeated("aB"),
    "numbers": _repeated("1,"),
    "different words": _different,
    "a ligature of 18 letters": _repeated("\ufdfa"),
    "sharp s": _repeated("ß"),
    "marks to reorder": lambda length: "a" + _repeated("\u0301\u0327")(length - 1),
    "divisions": _repeated("spend / clicks, "),
    "exclusions": _repeated("don't use "),
    "groups": _repeated("by "),
    "windows": lambda length: " ".join(f"{days}d" for days in range(1, length // 5)),
    "statistics": _repeated("average of "),
    "white space": lambda length: f"mean{' ' * (length - 8)}user",
    "quotation marks": _repeated("'"),
}
"""A sentence of so many characters."""


def profile(columns: int, names: str) -> Profile:
    """Make a profile of so many columns of all types."""
    chance = random.Random(1)  # noqa: S311 -- a benchmark repeats itself
    return Profile(10_000, tuple(_column(at, names, chance) for at in range(columns)), "0" * 64)


def _column(at: int, names: str, chance: random.Random) -> ColumnProfile:
    logical, physical = chance.choice(_TYPES)
    number = logical in {"integer", "numeric"}
    values = tuple(ValueCount(f"value {_WORDS[(at + n) % len(_WORDS)]} {n}", 10) for n in range(12))
    return ColumnProfile(
        NAMES[names](at), at, logical, physical, 0.1, 30,
        minimum=1 if number else None, maximum=99 if number else None, mean=5.0 if number else None,
        quantiles={"p50": 4.0, "p95": 9.0} if number else {}, top_values=values if logical == "categorical" else (),
    )  # fmt: skip
