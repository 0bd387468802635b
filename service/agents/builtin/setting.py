"""Choose the grain of a plan: what an output row stands for, the entity, the time column and the grouping columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from service.agents.builtin.events import Event
from service.agents.builtin.lexicon import TEXTUAL, Intent
from service.agents.builtin.reading import Reading
from service.agents.builtin.relations import Relation
from service.agents.builtin.sheet import ENTITY_CONCEPTS, Seen, Sheet, entity_meaning
from service.agents.words import mention, same, stemmed, telling_parts
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


class Setting(Struct, frozen=True):
    """Hold the grain of a plan and the columns that it depends on."""

    grain: Grain
    entity: Seen | None
    """At row grain: the entity whose earlier rows a row may look back on."""
    time: Seen | None
    groups: tuple[Seen, ...] = ()


def settle(
    reading: Reading,
    sheet: Sheet,
    events: Sequence[Event],
    options: ExtractionOptions,
    relations: Sequence[Relation] = (),
) -> Setting:
    """Decide by the client's options, then by the sentence, then by the columns."""
    time = _time(sheet, options)
    divisors = {relation.right.name for relation in relations}
    per = tuple(seen for seen in _spoken_of(reading.per, sheet) if seen.name not in divisors)
    by = tuple(seen for seen in _spoken_of(reading.by, sheet) if seen.name not in divisors)
    groupings = tuple(seen for seen in (*by, *per) if seen in sheet.categories or seen in sheet.flags)
    groups = tuple(seen for seen in groupings if seen in by)
    likely = _likely(sheet)
    told = any(event.spoken and event.where for event in events)
    told = told or (bool(reading.windows) and reading.says(*_OF_ENTITIES) and not reading.says("rolling", "lag"))
    explicit = _first(seen for seen in (*per, *by) if sheet.repeats(seen) and (seen in per or seen in likely or told))
    if (
        explicit in groupings
        and not reading.quantiles
        and reading.says(*_OF_ROWS_IN_GROUPS)
        and not reading.says(*_OF_ENTITIES)
    ):
        explicit, groups = None, groupings
    if _one_each(reading, sheet):
        explicit = None
    entity = sheet.find(options.entity) or explicit or _first(likely)
    if entity is None or _wants_rows(reading, sheet, explicit or sheet.find(options.entity), related=bool(relations)):
        return Setting("row", entity if time else sheet.find(options.entity), time, groups)
    if groups and not explicit and not options.entity and not entity.spoken:
        return Setting("row", entity if time else None, time, groups)
    if options.entity or explicit or _worthwhile(entity, reading, sheet, events, timed=time is not None):
        return Setting("entity", entity, time, groups)
    return Setting("row", entity if time else None, time, groups)


def _first(columns: Iterable[Seen]) -> Seen | None:
    return next(iter(columns), None)


def _spoken_of(phrases: Iterable[Sequence[str]], sheet: Sheet) -> tuple[Seen, ...]:
    """Return the columns that the noun phrases name, the clearest match first."""
    groupable = (
        *sheet.keys,
        *sheet.categories,
        *sheet.flags,
        *(s for s in sheet.numbers if s.column.type == "integer"),
    )
    found: dict[str, Seen] = {}
    for phrase in phrases:
        strengths = [(_plainness(seen, phrase), seen) for seen in groupable]
        strongest = max((strength for strength, _ in strengths), default=0)
        for strength, seen in strengths:
            if strength == strongest > 0:
                found.setdefault(seen.name, seen)
    return tuple(seen for seen in found.values() if seen.column.type != "boolean")


def _plainness(seen: Seen, phrase: Sequence[str]) -> float:
    """Score like `mention`, but lower if a match lacks the name's head noun: a "product group" is no product."""
    strength = mention(seen.stems, phrase)
    parts = telling_parts(seen.stems)
    headless = strength == 2 and seen.column.type != "identifier" and not any(same(parts[-1], word) for word in phrase)  # noqa: PLR2004 - a part
    return 0.5 if headless else strength


def _likely(sheet: Sheet) -> tuple[Seen, ...]:
    """Return columns with repeated values that identify something, the likeliest entity first."""
    keys = [seen for seen in sheet.keys if sheet.repeats(seen)]
    named = [
        seen
        for seen in sheet.categories
        if entity_meaning(seen) in ENTITY_CONCEPTS[:2] and sheet.repeats(seen) and seen.column.distinct >= FEW_ENTITIES
    ]
    return tuple(sorted((*keys, *named), key=_likelihood))


def _likelihood(seen: Seen) -> tuple[bool, int, int]:
    meaning = entity_meaning(seen)
    rank = ENTITY_CONCEPTS.index(meaning) if meaning else len(ENTITY_CONCEPTS)
    return (seen.spoken == 0, rank, -seen.column.distinct)


def _wants_rows(reading: Reading, sheet: Sheet, explicit: Seen | None, *, related: bool) -> bool:
    if reading.rows or (explicit is None and _speaks_of_rows(reading, sheet)):
        return True
    if explicit is None and related and not any(seen.spoken for seen in _likely(sheet)):
        return True
    if reading.says("lag", "rolling", "cumulative"):
        return bool(sheet.times)
    about_text = reading.says("length", "words", "contains", "characters") or not TEXTUAL.isdisjoint(reading.words)
    if sheet.texts and about_text and explicit is None:
        return True
    one_each = bool(_one_each(reading, sheet))
    return explicit is None and (one_each or (reading.says("change") and bool(sheet.times)))


def _one_each(reading: Reading, sheet: Sheet) -> tuple[Seen, ...]:
    """Return the row keys for which the sentence wants one answer each."""
    return tuple(seen for seen in _spoken_of(reading.per, sheet) if seen in sheet.keys and not sheet.repeats(seen))


def _speaks_of_rows(reading: Reading, sheet: Sheet) -> bool:
    """Check whether the sentence asks for what only rows have, or for a flag on each row."""
    if reading.purposes.isdisjoint(_ENTITY_PURPOSES) and reading.says(*_OF_ROWS):
        return True
    if sum(seen.spoken > 1 for seen in sheet.times) > 1 and reading.says("gap", "tenure"):
        return True
    calendar = reading.says("hour", "weekday", "season") and not reading.says("rate", "ratio")
    return not reading.per and (reading.says("flag") or (calendar and not any(seen.spoken for seen in _likely(sheet))))


def _worthwhile(entity: Seen, reading: Reading, sheet: Sheet, events: Sequence[Event], *, timed: bool) -> bool:
    """Check whether a sentence that names no entity is better served by one output row for each entity."""
    meant = entity.spoken > 0 or not reading.purposes.isdisjoint(_ENTITY_PURPOSES)
    few = entity.column.distinct < FEW_ENTITIES and sheet.row_count > CROWDED * entity.column.distinct
    if not reading.purposes.isdisjoint(_SERIES_PURPOSES) and not meant:
        return False
    if sheet.texts and not meant:
        return False
    if few and not reading.says("mean", "sum", "count", "recency", "frequency"):
        return False
    happened = any(event.spoken or event.where for event in events)
    return meant or (timed and entity_meaning(entity) is not None) or happened


def _time(sheet: Sheet, options: ExtractionOptions) -> Seen | None:
    fixed = sheet.find(options.time)
    if fixed is not None:
        return fixed
    return min(
        sheet.times,
        key=lambda seen: (
            -(seen.spoken > 1),
            not _LATE.isdisjoint(seen.stems),
            _EARLY.isdisjoint(seen.stems),
            seen.column.missing,
        ),
        default=None,
    )
