"""Numbers as people and spreadsheets write them: currencies, percent signs, separators, parentheses for negative ones.

A number's *class* says how its digits are parted, which mark stands with it and how it is signed. A column is one of
numbers when all of its values bear the same mark and agree on what dots and commas mean.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct
from sqlglot import exp

from service.engines.duckdb.ingest_sql import call, case, holds, matches, string, try_cast

INTEGER = re.compile(r"[+-]?(0|[1-9][0-9]*)")
"""No leading zeros: "00123" is a code, whose zeros a number would lose."""
DECIMAL = re.compile(r"[+-]?((0|[1-9][0-9]*)([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9]+)?")
WHOLE = re.compile(r"[+-]?(0|[1-9][0-9]*)([.]0*)?")
"""An integer, also as it comes out of a program that holds it as a floating-point number."""
DOTTED_THOUSAND = re.compile(r"[+-]?[1-9][0-9]{0,2}[.][0-9]{3}")
"""With a single dot it may as well be a decimal, and is one unless the rest of its column says otherwise."""
INFINITE_WORDS = tuple(sign + word for sign in ("", "+", "-") for word in ("inf", "infinity"))

CURRENCIES = (
    "[$€£¥₹₩₽₺₴₪฿₫₦₱]|R[$]|kr|zł|Kč|Ft|AED|ARS|AUD|BGN|BRL|CAD|CHF|CLP|CNY|COP|CZK|DKK|EGP|EUR|GBP|HKD|HUF|IDR|ILS|INR"
    "|JPY|KES|KRW|MXN|MYR|NGN|NOK|NZD|PEN|PHP|PLN|RON|RUB|SAR|SEK|SGD|THB|TRY|TWD|UAH|USD|VND|ZAR"
)
"""Signs, and codes of ISO 4217 of currencies that are traded much."""
MARK = re.compile(f"{CURRENCIES}|%")
MINUS, QUOTE = "\u2212", "\u2019"
"""The minus sign and the apostrophe of typesetting."""
THIN = "\u00a0\u2009\u202f"
"""Spaces that typesetting puts between thousands and before a mark."""
PUNCTUATED = re.compile(
    rf"([(]|[-{MINUS}])?[ {THIN}]?(({CURRENCIES})[ {THIN}]?)?[-{MINUS}]?[ {THIN}]?"
    rf"[0-9.][0-9.,'{QUOTE} {THIN}]*({CURRENCIES}|%)?[)]?"
)
"""What may be a number with more than digits, one dot and an ASCII sign in it; with a plus it may be a telephone's."""

_GROUP = "[1-9][0-9]{0,2}"
CORES: Mapping[str, re.Pattern[str]] = {
    "integer": re.compile("0|[1-9][0-9]*"),
    "grouped": re.compile(rf"{_GROUP}[.][0-9]{{3}}"),
    "millions": re.compile(rf"{_GROUP}([.][0-9]{{3}}){{2,}}"),
    "decimal": re.compile("(0|[1-9][0-9]*)[.][0-9]*|[.][0-9]+"),
    "comma group": re.compile(rf"{_GROUP},[0-9]{{3}}"),
    "decimal comma": re.compile(rf"(0|[1-9][0-9]*|{_GROUP}([.][0-9]{{3}})+),[0-9]+"),
    "thousands": re.compile(rf"{_GROUP}(,[0-9]{{3}}){{2,}}|{_GROUP}(,[0-9]{{3}})+[.][0-9]*"),
    "spaced point": re.compile(rf"{_GROUP}([ '{QUOTE}{THIN}][0-9]{{3}})+[.][0-9]+"),
    "spaced comma": re.compile(rf"{_GROUP}([ '{QUOTE}{THIN}][0-9]{{3}})+,[0-9]+"),
    "parted": re.compile(rf"{_GROUP}(['{QUOTE}{THIN}][0-9]{{3}})+"),
    "spaced 1": re.compile("[1-9] [0-9]{3}"),
    "spaced 2": re.compile("[1-9][0-9] [0-9]{3}"),
    "spaced 3": re.compile("[1-9][0-9]{2} [0-9]{3}"),
    "spaced long": re.compile(rf"{_GROUP}( [0-9]{{3}}){{2,}}"),
}
"""How digits are parted, the first that matches."""
POINT = frozenset({"decimal", "thousands", "spaced point"})
"""Classes in which a dot can only be the decimal point."""
COMMA = frozenset({"decimal comma", "millions", "spaced comma"})
"""Classes in which a comma is decimal, or a dot stands between thousands."""
SHORT_SPACED = frozenset({"spaced 1", "spaced 2", "spaced 3"})
SPACED = SHORT_SPACED | {"spaced long"}
"""Groups of three digits after spaces: numbers, or codes of one length and telephone numbers."""
PLAIN = frozenset({"integer", "big", "decimal", "grouped", "nan", "infinite"})
"""Classes that the engine's own cast reads."""
NUMBER = "#"
"""Begins the class of a number that the engine's own cast does not read."""


class Style(Struct, frozen=True):
    """How the numbers of a column are written."""

    comma: bool = False
    """Whether the comma is decimal, and dots stand between thousands."""
    mark: str = ""
    plain: bool = True
    """Whether the engine's cast reads every value."""
    remarks: tuple[str, ...] = ()
    """What a reader of the profile should know of it."""


class _Written(Struct, frozen=True):
    core: str
    mark: str = ""
    sign: str = ""
    plain: bool = True


def class_of(value: exp.Expr) -> exp.Expr:
    """The SQL for the class of a number that is `PUNCTUATED`; null for what is no number after all."""
    kept = f"[^0-9.,'{QUOTE} {THIN}]"
    bare = call("regexp_replace", value.copy(), string(kept), string(""), string("g"))
    core = call("trim", bare, string(f" {THIN}"))
    label = case(*((matches(core, pattern), string(name)) for name, pattern in CORES.items()))
    opened, closed = call("starts_with", value.copy(), string("(")), call("ends_with", value.copy(), string(")"))
    signed = holds(value.copy(), re.compile(f"[-{MINUS}]"))
    sign = case(
        (exp.and_(opened, closed, exp.Not(this=signed)), string("()")),
        (exp.or_(opened.copy(), closed.copy()), exp.null()),
        (holds(value.copy(), re.compile(MINUS)), string(MINUS)),
        otherwise=string(""),
    )
    mark = call("regexp_extract", value.copy(), string(MARK.pattern))
    # With ||, an unknown part makes the whole unknown.
    parts = (string(NUMBER), label, string("|"), mark, string("|"), sign)
    whole: exp.Expr = parts[0]
    for part in parts[1:]:
        whole = exp.DPipe(this=whole, expression=part)
    return whole.copy()


def style_of(classes: Mapping[str, int], *, decimal_comma: bool, asked: bool = False) -> Style | None:
    """How the numbers of a column are written; None when its values are not all numbers of one kind.

    `decimal_comma` says that the file leaves commas free for decimals, and `asked` that the client wants numbers, so
    that none is taken for a code. NaN and infinity go with any number.
    """
    written = {label: _parsed(label) for label in classes}
    numbers = {label: one for label, one in written.items() if one is not None}
    if len(numbers) < len(written) or not (set(written) - {"nan", "infinite"}):
        return None
    shown = [one for one in numbers.values() if one.core not in {"nan", "infinite"}]
    marks = {one.mark for one in shown}
    if len(marks) > 1:
        return None
    (mark,) = marks
    cores = frozenset(one.core for one in shown)
    comma = _decides_comma(cores, mark, decimal_comma=decimal_comma or asked)
    if comma is None or not (asked or _are_numbers(cores, mark)):
        return None
    plain = not comma and cores <= PLAIN and all(one.plain for one in shown)
    return Style(comma, mark, plain, () if plain else _remarks(classes, numbers, cores, mark, comma=comma))


def read(value: exp.Expr, style: Style) -> exp.Expr:
    """The SQL that reads a text without spaces around it as DOUBLE; null where it is no number."""
    if style.plain:
        return try_cast(value, "DOUBLE")
    digits = call("regexp_replace", value.copy(), string("[^0-9.,]"), string(""), string("g"))
    point = _replace(_replace(digits, ".", ""), ",", ".") if style.comma else _replace(digits, ",", "")
    number = try_cast(point, "DOUBLE")
    negative = holds(value.copy(), re.compile(f"[-{MINUS}(]"))
    signed = case((negative, exp.Neg(this=number)), otherwise=number.copy())
    unpunctuated = try_cast(value.copy(), "DOUBLE") if not style.comma and not style.mark else try_words(value)
    return exp.Coalesce(this=unpunctuated, expressions=[case((matches(value.copy(), PUNCTUATED), signed))])


def try_words(value: exp.Expr) -> exp.Expr:
    """NaN and infinity as DOUBLE; null for anything else."""
    words = exp.In(this=call("lower", value.copy()), expressions=[string(w) for w in ("nan", *INFINITE_WORDS)])
    return case((words, try_cast(value.copy(), "DOUBLE")))


def whole(value: exp.Expr) -> exp.Expr:
    """The SQL that reads an integer, also one written `1.0`, as BIGINT; null where the text is none."""
    digits = call("regexp_replace", value.copy(), string("[.]0*$"), string(""))
    return case((matches(value.copy(), WHOLE), try_cast(digits, "BIGINT")))


def count_of(classes: Mapping[str, int]) -> int:
    """How many of the values are numbers."""
    return sum(count for label, count in classes.items() if _parsed(label) is not None)


def _parsed(label: str) -> _Written | None:
    if label in PLAIN:
        return _Written(label)
    if label.startswith(NUMBER):
        core, mark, sign = label.removeprefix(NUMBER).split("|")
        return _Written(core, mark, sign, plain=False)
    return None


def _decides_comma(cores: frozenset[str], mark: str, *, decimal_comma: bool) -> bool | None:
    """Whether the comma is decimal; None where the values contradict each other, or nothing decides."""
    point, comma = bool(cores & POINT), bool(cores & COMMA)
    if point and comma:
        return None
    if comma:
        return True if decimal_comma or mark else None
    if "comma group" in cores and not point:
        decimal = decimal_comma and not (mark and mark != "%")
        return None if "grouped" in cores else decimal
    return False


def _are_numbers(cores: frozenset[str], mark: str) -> bool:
    """Whether groups of digits after spaces are numbers: something else marks them, or short ones differ in length.

    Telephone numbers are longer, and codes are of one length.
    """
    marked = bool(mark) or bool(cores & (POINT | COMMA | {"parted"}))
    return marked or not cores & SPACED or len(cores & SHORT_SPACED) > 1


def _remarks(
    classes: Mapping[str, int], written: Mapping[str, _Written], cores: frozenset[str], mark: str, *, comma: bool
) -> tuple[str, ...]:
    """What is left out or read otherwise than the engine would, and how often."""

    def count(*wanted: str) -> int:
        return sum(classes[label] for label, one in written.items() if one.core in wanted or one.sign in wanted)

    remarks: list[str] = []
    if mark:
        remarks.append("percent signs left out, 12 % is 12" if mark == "%" else f"the sign {mark} left out")
    if comma:
        remarks.append("decimal comma" if cores & {"decimal comma", "spaced comma"} else "dots between thousands")
    elif cores & {"thousands", "comma group"}:
        remarks.append("commas between thousands")
    if mark and mark != "%" and "grouped" in cores and not comma:
        remarks.append("dots read as decimal points, which could also part thousands")
    if cores & (SPACED | {"parted", "spaced point", "spaced comma"}):
        remarks.append("spaces or apostrophes between thousands")
    if negative := count("()"):
        remarks.append(f"{negative} in parentheses, read as negative")
    if minus := count(MINUS):
        remarks.append(f"{minus} with the minus sign U+2212")
    return tuple(remarks)


def _replace(value: exp.Expr, old: str, new: str) -> exp.Expr:
    return call("replace", value, string(old), string(new))
