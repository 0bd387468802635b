"""Row grain: one value from one row of the dataset, whatever the others hold."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from sqlglot import exp

from service.features.operations import types as op
from service.features.operations.sql import DAY, Source, number, template

PARTS: dict[str, str] = {
    "hour": "EXTRACT(HOUR FROM :t)",
    "day_of_week": "ISODOW(:t)",
    "day_of_month": "EXTRACT(DAY FROM :t)",
    "day_of_year": "EXTRACT(DOY FROM :t)",
    "week": "EXTRACT(WEEK FROM :t)",
    "month": "EXTRACT(MONTH FROM :t)",
    "quarter": "EXTRACT(QUARTER FROM :t)",
    "year": "EXTRACT(YEAR FROM :t)",
}
"""Calendar parts; weeks and days of the week are ISO 8601's."""

PERIODS: dict[str, int] = {"hour": 24, "day_of_week": 7, "month": 12}

CLASSES: dict[str, str] = {
    "digit": "[^0-9]",
    "uppercase": r"[^\p{Lu}]",
    "punctuation": r"[^\p{P}\p{S}]",
    "space": r"[^\s]",
}
"""What is *not* of the class, in the syntax that RE2 and Java's expressions share."""


def _value(o: op.Value, s: Source) -> exp.Expr:
    return s.raw(o.column)


def _logarithm(o: op.Logarithm, s: Source) -> exp.Expr:
    return template("SIGN(:x) * LN(1 + ABS(:x))", x=s.number(o.column))


def _absolute(o: op.AbsoluteValue, s: Source) -> exp.Expr:
    return template("ABS(:x)", x=s.number(o.column))


def _difference(o: op.Difference, s: Source) -> exp.Expr:
    return template(":x - :y", x=s.number(o.left), y=s.number(o.right))


def _product(o: op.Product, s: Source) -> exp.Expr:
    return template(":x * :y", x=s.number(o.left), y=s.number(o.right))


def _ratio(o: op.Ratio, s: Source) -> exp.Expr:
    return template(":x / NULLIF(:y, 0)", x=s.number(o.numerator), y=s.number(o.denominator))


def _is_missing(o: op.IsMissing, s: Source) -> exp.Expr:
    return _flagged(template(":x IS NULL", x=s.raw(o.column)))


def _flag(o: op.Flag, s: Source) -> exp.Expr:
    return _flagged(s.condition(o.where))


def _flagged(condition: exp.Expr) -> exp.Expr:
    return template("CASE WHEN :condition THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END", condition=condition)


def _date_part(o: op.DatePartOf, s: Source) -> exp.Expr:
    return template("CAST(:part AS BIGINT)", part=template(PARTS[o.part], t=s.raw(o.column)))


def _cyclic_time(o: op.CyclicTime, s: Source) -> exp.Expr:
    turn = number(2 * math.pi / PERIODS[o.part])
    wave = "SIN(:turn * :part)" if o.function == "sine" else "COS(:turn * :part)"
    return template(wave, turn=turn, part=template(PARTS[o.part], t=s.raw(o.column)))


def _is_weekend(o: op.IsWeekend, s: Source) -> exp.Expr:
    text = "CASE WHEN ISODOW(:t) >= 6 THEN CAST(1 AS BIGINT) WHEN ISODOW(:t) < 6 THEN CAST(0 AS BIGINT) END"
    return template(text, t=s.raw(o.column))


def _elapsed_days(o: op.ElapsedDays, s: Source) -> exp.Expr:
    return template("(:end - :start) / :day", end=s.instant(o.end), start=s.instant(o.start), day=DAY)


def _text_length(o: op.TextLength, s: Source) -> exp.Expr:
    return template("CAST(LENGTH(:x) AS BIGINT)", x=s.text(o.column))


def _word_count(o: op.WordCount, s: Source) -> exp.Expr:
    words = r"REGEXP_REPLACE(REGEXP_REPLACE(:x, '\S+', 'w', 'g'), '\s+', '', 'g')"
    return template(f"CAST(LENGTH({words}) AS BIGINT)", x=s.text(o.column))


def _text_contains(o: op.TextContains, s: Source) -> exp.Expr:
    term = exp.Literal.string(o.term)
    return _flagged(template("CONTAINS(LOWER(:x), LOWER(:term))", x=s.text(o.column), term=term))


def _character_share(o: op.CharacterShare, s: Source) -> exp.Expr:
    text = "LENGTH(REGEXP_REPLACE(:x, :others, '', 'g')) / NULLIF(LENGTH(:x), 0)"
    return template(text, x=s.text(o.column), others=exp.Literal.string(CLASSES[o.characters]))


ROW_COMPILERS: dict[type, Callable[[Any, Source], exp.Expr]] = {
    op.Value: _value,
    op.Logarithm: _logarithm,
    op.AbsoluteValue: _absolute,
    op.Difference: _difference,
    op.Product: _product,
    op.Ratio: _ratio,
    op.IsMissing: _is_missing,
    op.Flag: _flag,
    op.DatePartOf: _date_part,
    op.CyclicTime: _cyclic_time,
    op.IsWeekend: _is_weekend,
    op.ElapsedDays: _elapsed_days,
    op.TextLength: _text_length,
    op.WordCount: _word_count,
    op.TextContains: _text_contains,
    op.CharacterShare: _character_share,
}
