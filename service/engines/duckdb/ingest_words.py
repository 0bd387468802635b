"""Words in cells that are no text: those for a missing value, and those for true and false."""

from __future__ import annotations

from collections.abc import Iterable

from sqlglot import exp

from service.engines.duckdb.ingest_sql import call, case, one_of

BOOLEAN_WORDS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("true",), ("false",)),
    (("yes",), ("no",)),
    (("t",), ("f",)),
    (("y",), ("n",)),
    (("on",), ("off",)),
    (("sí", "si", "sì"), ("no",)),
    (("oui",), ("non",)),
    (("ja",), ("nein",)),
    (("ja",), ("nee",)),
    (("ja",), ("nej", "nei")),
    (("sim",), ("não", "nao")),
    (("tak",), ("nie",)),
    (("да",), ("нет",)),
    (("vrai",), ("faux",)),
    (("wahr",), ("falsch",)),
    (("verdadero",), ("falso",)),
    (("verdadeiro",), ("falso",)),
    (("vero",), ("falso",)),
)
"""What is said for true, and what for false with it."""
ALONE = frozenset({"true", "false", "yes", "no"})
"""Words that mean a flag without the other word of their pair; any other may be a category, a name or a letter."""

ALL_TRUE = tuple(dict.fromkeys(word for true, _ in BOOLEAN_WORDS for word in true))
ALL_FALSE = tuple(dict.fromkeys(word for _, false in BOOLEAN_WORDS for word in false))


def boolean_words(shown: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """The words for true and for false of a column that holds no other ones (in lower case); else None."""
    found = set(shown)
    for true, false in BOOLEAN_WORDS:
        if found and found <= {*true, *false}:
            both = found & set(true) and found & set(false)
            if both or found <= ALONE:
                return true, false
    return None


def boolean(value: exp.Expr, true: Iterable[str], false: Iterable[str]) -> exp.Expr:
    """The SQL that reads words as true and false, in any case; null for any other text."""
    lower = call("lower", value)
    return case((one_of(lower, true), exp.true()), (one_of(lower.copy(), false), exp.false()))


def is_missing(value: exp.Expr, words: Iterable[str], *, nan: bool) -> exp.Expr:
    """Whether the text, without spaces around it, stands for a missing value; `nan` for NaN in any case, too."""
    conditions = [one_of(value, words)] if (words := tuple(words)) else []
    conditions += [call("lower", value.copy()).eq("nan")] if nan else []
    return exp.or_(*conditions)
