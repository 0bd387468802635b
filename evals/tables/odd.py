"""A table as it comes out of an old system: names in several scripts, keywords, repeated and missing headers."""

from __future__ import annotations

import random

from evals.tables.cells import Table, column, day, instant, money, often, weighted


def legacy(chance: random.Random) -> Table:
    """Sales of a company whose system grew in three countries."""
    count = 1_600
    return [
        ("Kundennr.", column(count, lambda _: often(chance, 240))),
        ("Bestelldatum", column(count, lambda _: day(instant(chance, 400)))),
        ("Umsatz (€)", column(count, lambda _: money(chance, 75))),
        ("Menge", column(count, lambda _: chance.choice([1, 2, 3, 5, 10]))),
        ("order", column(count, lambda row: f"{row:05d}")),
        ("select", column(count, lambda _: weighted(chance, premium=2, basic=5))),
        ("group", column(count, lambda _: weighted(chance, north=2, south=3, west=1))),
        ("価格", column(count, lambda _: money(chance, 20))),
        ("amount", column(count, lambda _: money(chance, 50))),
        ("amount", column(count, lambda _: money(chance, 5))),
        ("", column(count, lambda _: round(chance.random(), 3))),
        ("Größe", column(count, lambda _: weighted(chance, S=2, M=4, L=3, XL=1))),
        ("Ship-To Country", column(count, lambda _: weighted(chance, Austria=3, Italy=2, Japan=1))),
        ("% margin", column(count, lambda _: round(chance.gauss(22, 6), 1))),
        ("is returned?", column(count, lambda _: chance.choice(["Y", "N", "N", "N"]))),
    ]
