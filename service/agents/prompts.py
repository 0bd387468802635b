"""Write the prompt of a model: the instructions, and a data block with the client's words and column statistics.

The data block holds unverified text: column names, values, the client's sentence. It is fenced (see `fence.py`), and
all of it is bounded in number and length. A profile has no rows and a personal column has no values, so neither can be
shown.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import cache
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from service.agents.fence import CLOSING, OPENING, encodable, fence, within
from service.agents.instructions import write_instructions
from service.agents.words import Phrase, beginning, mention, stems
from service.concurrency.threads import checked
from service.features.model import ColumnProfile, ExtractionOptions, FeaturePlan, LogicalType, Profile
from service.features.operations import Scalar
from service.features.operations.literals import feature_type
from service.features.quality import BARS, WEIGHTS
from service.features.tables import explained_in

MAX_COLUMNS = 120
"""Columns described to the model, at about 150 characters each: some 5 000 tokens."""
MAX_DATA_CHARACTERS = 40_000
"""Columns are left out, least relevant first, when the block would be longer: some 10 000 tokens."""
MAX_TERMS = 10
MAX_NAME = 256
"""Longer column names cannot be used in a plan (`operations.parameters.Column`)."""
MAX_VALUES = 12
MAX_VALUE = 60
"""Longer values are left out, not cut: a cut value would make a predicate that is never true."""
MAX_DESCRIPTION = 4_000
"""Characters of the client's sentence that are shown to the model."""
MAX_MESSAGE_CHARACTERS = MAX_DATA_CHARACTERS + 6 * (MAX_DESCRIPTION + 3 * MAX_NAME) + 1_000
"""Upper bound of a user message; each character of the sentence and the three column options may be escaped to six."""

INSTRUCTIONS = write_instructions(BARS, WEIGHTS)
"""System instructions of the planning agent."""


@cache
def prompt_version() -> str:
    """Return a short hash of every model's input: instructions, bounds of the data block, schema of an answer."""
    bounds = (MAX_COLUMNS, MAX_DATA_CHARACTERS, MAX_NAME, MAX_VALUES, MAX_VALUE, MAX_DESCRIPTION)
    schemas = msgspec.json.schema_components([FeaturePlan, Request])
    inputs = msgspec.json.encode((INSTRUCTIONS, bounds, schemas), order="deterministic")
    return hashlib.sha256(inputs).hexdigest()[:16]


class Value(Struct, frozen=True, array_like=True):
    """A frequent value, in the column's own type, and the share of rows that hold it."""

    value: Scalar
    share: float


class Column(Struct, frozen=True, omit_defaults=True):
    """A column as the model sees it."""

    name: str
    type: LogicalType
    distinct: int
    missing: float = 0.0
    """Share of null rows."""
    minimum: Scalar | None = None
    maximum: Scalar | None = None
    mean: float | None = None
    standard_deviation: float | None = None
    median: float | None = None
    p95: float | None = None
    values: tuple[Value, ...] = ()
    terms: tuple[str, ...] = ()
    """Words that many rows of a text hold."""
    mean_length: float | None = None
    personal: bool = False


class Request(Struct, frozen=True):
    """The whole data block of a prompt."""

    description: str
    options: ExtractionOptions
    row_count: Annotated[int, Meta(ge=0)]
    columns: tuple[Column, ...]
    columns_left_out: int = 0
    """Columns that are not described here, for there are too many."""
    tables: tuple[str, ...] = ()
    """How the tables join whose columns these are, and what is known when."""


def build_request(description: str, profile: Profile, options: ExtractionOptions) -> Request:
    """Build the data of a prompt; of too many columns, keep those most relevant to the description."""
    ranked = _ranked(description, profile.columns, options)
    chosen = [describe(column, profile.row_count) for column in ranked[:MAX_COLUMNS]]
    kept = {column.name for column in within(chosen, MAX_DATA_CHARACTERS)}
    shown = {column.name: column for column in chosen if column.name in kept}
    return Request(
        description=encodable(description[:MAX_DESCRIPTION]),
        options=options,
        row_count=profile.row_count,
        columns=tuple(shown[column.name] for column in profile.columns if column.name in shown),
        columns_left_out=len(profile.columns) - len(shown),
        tables=tuple(encodable(line) for line in explained_in(profile)),
    )


def render(request: Request) -> str:
    """Render the user message: the fenced data block, and a note about columns left out."""
    note = ""
    if request.columns_left_out:
        note = (
            f"\n{request.columns_left_out} further columns match the description less and are not described: use none "
            "of them unless a tool has told you of it."
        )
    return f"Plan the features that the data's `description` asks for.\n{fence(request)}{note}"


def parse(message: str) -> Request:
    """Read the data block back from a user message.

    Raises ValueError when the message holds none.
    """
    _, opening, rest = message.partition(OPENING)
    data, closing, _ = rest.partition(CLOSING)
    if not (opening and closing):
        raise ValueError("the message has no data block")
    return msgspec.json.decode(data, type=Request)


def nameable(columns: Sequence[ColumnProfile]) -> list[ColumnProfile]:
    """Return the columns that a plan can name."""
    return [column for column in columns if 0 < len(column.name) <= MAX_NAME]


def _ranked(
    description: str, columns: Sequence[ColumnProfile], options: ExtractionOptions
) -> tuple[ColumnProfile, ...]:
    """Return the columns that a plan can name, most relevant first, ties in the dataset's order."""
    sentence = Phrase(stems(beginning(description[:MAX_DESCRIPTION])))
    fixed = {options.entity, options.time, options.target} - {None}

    def rank(column: ColumnProfile) -> tuple[float, int]:
        return -_relevance(column, sentence, column.name in fixed), column.position

    return tuple(sorted(checked(nameable(columns)), key=rank))


def _relevance(column: ColumnProfile, sentence: Phrase, fixed: bool) -> float:  # noqa: FBT001 - private
    """Score columns that the client fixed or names; then keys and times, which nearly every plan needs."""
    if fixed:
        return 10.0
    structural = 1.5 if column.logical_type in {"identifier", "datetime"} else 0.0
    empty = -1.0 if column.distinct_count < 2 else 0.0  # noqa: PLR2004 - one value says nothing
    return mention(stems(column.name), sentence) + structural + empty


def describe(column: ColumnProfile, row_count: int, *, values: int = MAX_VALUES) -> Column:
    """Describe a column by its statistics and at most `values` values; nothing of its content if it is personal."""
    if column.personal:
        return Column(
            column.name, column.logical_type, column.distinct_count, short(column.null_ratio) or 0.0, personal=True
        )
    textual = column.logical_type == "text"
    return Column(
        name=column.name,
        type=column.logical_type,
        distinct=column.distinct_count,
        missing=short(column.null_ratio) or 0.0,
        minimum=None if textual else _bounded(column.minimum),
        maximum=None if textual else _bounded(column.maximum),
        mean=short(column.mean),
        standard_deviation=short(column.standard_deviation),
        median=short(column.quantiles.get("p50")),
        p95=short(column.quantiles.get("p95")),
        values=() if textual or column.logical_type == "identifier" else _values(column, row_count, values),
        terms=tuple(term.value for term in column.frequent_terms[:MAX_TERMS]) if textual else (),
        mean_length=short(column.mean_length),
    )


def _values(column: ColumnProfile, row_count: int, limit: int) -> tuple[Value, ...]:
    typed = ((_typed(entry.value, column), entry.count) for entry in column.top_values if len(entry.value) <= MAX_VALUE)
    fitting = [(value, count) for value, count in typed if value is not None]
    return tuple(Value(value, round(count / max(row_count, 1), 4)) for value, count in fitting[:limit])


def _typed(text: str, column: ColumnProfile) -> Scalar | None:
    """Convert a rendered value to the column's type, as predicates need it; None if it does not convert."""
    storage = feature_type(column)
    try:
        if storage == "boolean":
            return {"true": True, "false": False}.get(text.casefold())
        if storage == "integer":
            return int(text)
        if storage == "number":
            return float(text) if math.isfinite(float(text)) else None
    except ValueError:
        return None
    return None if "\0" in text else text


def _bounded(value: Scalar | None) -> Scalar | None:
    if isinstance(value, str):
        return value[:MAX_VALUE]
    return short(value) if isinstance(value, float) else value


def short(number: float | None) -> float | None:
    """Round to five significant digits, enough for planning."""
    return None if number is None else float(f"{number:.5g}")
