"""Choose the grain of a plan: what an output row stands for, the entity, the time column and the grouping columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from service.agents.builtin.columns import ENTITY_CONCEPTS, ColumnIndex, ColumnMatch, entity_meaning
from service.agents.builtin.events import Event
from service.agents.builtin.lexicon import TEXTUAL, Intent
from service.agents.builtin.reading import Reading
from service.agents.builtin.relations import Relation
from service.agents.words import Phrase, meaningful_parts, mention, same, stemmed
from service.concurrency.threads import checked
from service.features.model import ExtractionOptions, Grain

FEW_ENTITIES = 20
"""A table with fewer entities is too small to train on; it is made only on request."""
CROWDED = 50
"""With this many rows for each entity, few entities are series rather than things to compare."""
_SERIES_PURPOSES = frozenset({"forecast", "anomaly"})
_ENTITY_PURPOSES = frozenset({"churn", "engagement", "recommendation", "value", "fraud"})
_OF_ROWS: tuple[Intent, ...] = (
    "log",
    "encoding",
    "bins",
    "product",
    "minmax",
    "difference",
    "elapsed",
    "scale",
    "asis",
)
"""Statistics of rows, unless the sentence names an entity."""
_OF_ROWS_IN_GROUPS: tuple[Intent, ...] = ("scale", "rank", "encoding")
_OF_ENTITIES: tuple[Intent, ...] = (
    "mean", "sum", "count", "minimum", "maximum", "median", "spread", "rate", "distinct", "trend", "recency", "mode",
)  # fmt: skip
_LATE = stemmed("birth birthday dob birthdate updated modified deleted expiry end")
"""Time columns that are seldom the time of the row."""
_EARLY = stemmed("event timestamp ts time order purchase created transaction visit")


class GrainChoice(Struct, frozen=True):
    """Hold the grain of a plan and the columns that it depends on."""

    grain: Grain
    entity: ColumnMatch | None
    """At row grain: the entity whose earlier rows a row may look back on."""
    time: ColumnMatch | None
    groups: tuple[ColumnMatch, ...] = ()


def choose_grain(
    reading: Reading,
    columns: ColumnIndex,
    events: Sequence[Event],
    options: ExtractionOptions,
    relations: Sequence[Relation] = (),
) -> GrainChoice:
    """Decide by the client's options, then by the sentence, then by the columns."""
    time = _time(columns, options)
    divisors = {relation.right.name for relation in relations}
    per = tuple(match for match in _named_columns(reading.per, columns) if match.name not in divisors)
    by = tuple(match for match in _named_columns(reading.by, columns) if match.name not in divisors)
    groupings = tuple(match for match in (*by, *per) if match in columns.categories or match in columns.flags)
    groups = tuple(match for match in groupings if match in by)
    likely = _likely(columns)
    aggregated = any(event.mentioned and event.where for event in events)
    aggregated = aggregated or (
        bool(reading.windows) and reading.says(*_OF_ENTITIES) and not reading.says("rolling", "lag")
    )
    explicit = _first(
        match for match in (*per, *by) if columns.repeats(match) and (match in per or match in likely or aggregated)
    )
    if (
        explicit in groupings
        and not reading.quantiles
        and reading.says(*_OF_ROWS_IN_GROUPS)
        and not reading.says(*_OF_ENTITIES)
    ):
        explicit, groups = None, groupings
    if _one_each(reading, columns):
        explicit = None
    entity = columns.find(options.entity) or explicit or _first(likely)
    if entity is None or _wants_rows(
        reading, columns, explicit or columns.find(options.entity), related=bool(relations)
    ):
        return GrainChoice("row", entity if time else columns.find(options.entity), time, groups)
    if groups and not explicit and not options.entity and not entity.strength:
        return GrainChoice("row", entity if time else None, time, groups)
    if options.entity or explicit or _worthwhile(entity, reading, columns, events, timed=time is not None):
        return GrainChoice("entity", entity, time, groups)
    return GrainChoice("row", entity if time else None, time, groups)


def _first(columns: Iterable[ColumnMatch]) -> ColumnMatch | None:
    return next(iter(columns), None)


def _named_columns(phrases: Iterable[Sequence[str]], columns: ColumnIndex) -> tuple[ColumnMatch, ...]:
    """Return the columns that the noun phrases name, the clearest match first."""
    groupable = (
        *columns.keys,
        *columns.categories,
        *columns.flags,
        *(s for s in columns.numbers if s.column.type == "integer"),
    )
    found: dict[str, ColumnMatch] = {}
    for phrase in checked(map(Phrase, phrases)):
        strengths = [(_plainness(match, phrase), match) for match in groupable]
        strongest = max((strength for strength, _ in strengths), default=0)
        for strength, match in strengths:
            if strength == strongest > 0:
                found.setdefault(match.name, match)
    return tuple(match for match in found.values() if match.column.type != "boolean")


def _plainness(match: ColumnMatch, phrase: Phrase) -> float:
    """Score like `mention`, but lower if a match lacks the name's head noun: a "product group" is no product."""
    strength = mention(match.stems, phrase)
    parts = meaningful_parts(match.stems)
    partial = strength == 2 and match.column.type != "identifier"  # noqa: PLR2004 - a part
    headless = partial and not any(same(parts[-1], word) for word in phrase.words)
    return 0.5 if headless else strength


def _likely(columns: ColumnIndex) -> tuple[ColumnMatch, ...]:
    """Return columns with repeated values that identify something, the likeliest entity first."""
    keys = [match for match in columns.keys if columns.repeats(match)]
    named = [
        match
        for match in columns.categories
        if entity_meaning(match) in ENTITY_CONCEPTS[:2]
        and columns.repeats(match)
        and match.column.distinct >= FEW_ENTITIES
    ]
    return tuple(sorted((*keys, *named), key=_likelihood))


def _likelihood(match: ColumnMatch) -> tuple[bool, int, int]:
    meaning = entity_meaning(match)
    rank = ENTITY_CONCEPTS.index(meaning) if meaning else len(ENTITY_CONCEPTS)
    return (match.strength == 0, rank, -match.column.distinct)


def _wants_rows(reading: Reading, columns: ColumnIndex, explicit: ColumnMatch | None, *, related: bool) -> bool:
    if reading.rows or (explicit is None and _speaks_of_rows(reading, columns)):
        return True
    if explicit is None and related and not any(match.strength for match in _likely(columns)):
        return True
    if reading.says("lag", "rolling", "cumulative"):
        return bool(columns.times)
    about_text = reading.says("length", "words", "contains", "characters") or not TEXTUAL.isdisjoint(
        reading.sentence.set
    )
    if columns.texts and about_text and explicit is None:
        return True
    one_each = bool(_one_each(reading, columns))
    return explicit is None and (one_each or (reading.says("change") and bool(columns.times)))


def _one_each(reading: Reading, columns: ColumnIndex) -> tuple[ColumnMatch, ...]:
    """Return the row keys for which the sentence wants one answer each."""
    return tuple(
        match for match in _named_columns(reading.per, columns) if match in columns.keys and not columns.repeats(match)
    )


def _speaks_of_rows(reading: Reading, columns: ColumnIndex) -> bool:
    """Check whether the sentence asks for what only rows have, or for a flag on each row."""
    if reading.purposes.isdisjoint(_ENTITY_PURPOSES) and reading.says(*_OF_ROWS):
        return True
    if sum(match.strength > 1 for match in columns.times) > 1 and reading.says("gap", "tenure"):
        return True
    calendar = reading.says("hour", "weekday", "season") and not reading.says("rate", "ratio")
    return not reading.per and (
        reading.says("flag") or (calendar and not any(match.strength for match in _likely(columns)))
    )


def _worthwhile(
    entity: ColumnMatch, reading: Reading, columns: ColumnIndex, events: Sequence[Event], *, timed: bool
) -> bool:
    """Check whether a sentence that names no entity is better served by one output row for each entity."""
    meant = entity.strength > 0 or not reading.purposes.isdisjoint(_ENTITY_PURPOSES)
    few = entity.column.distinct < FEW_ENTITIES and columns.row_count > CROWDED * entity.column.distinct
    if not reading.purposes.isdisjoint(_SERIES_PURPOSES) and not meant:
        return False
    if columns.texts and not meant:
        return False
    if few and not reading.says("mean", "sum", "count", "recency", "frequency"):
        return False
    happened = any(event.mentioned or event.where for event in events)
    return meant or (timed and entity_meaning(entity) is not None) or happened


def _time(columns: ColumnIndex, options: ExtractionOptions) -> ColumnMatch | None:
    fixed = columns.find(options.time)
    if fixed is not None:
        return fixed
    return min(
        columns.times,
        key=lambda match: (
            -(match.strength > 1),
            not _LATE.isdisjoint(match.stems),
            _EARLY.isdisjoint(match.stems),
            match.column.missing,
        ),
        default=None,
    )
