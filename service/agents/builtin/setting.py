"""Settles what one output row stands for: the grain, the entity, the time column, the columns to group by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from service.agents.builtin.events import Event
from service.agents.builtin.lexicon import TEXTUAL
from service.agents.builtin.reading import Reading
from service.agents.builtin.sheet import ENTITY_CONCEPTS, Seen, Sheet, entity_meaning
from service.agents.words import mention, stemmed
from service.features.model import ExtractionOptions, Grain

FEW_ENTITIES = 20
"""A table of fewer entities teaches a model little: it is made only when the sentence asks for it."""
CROWDED = 50
"""Rows for each entity from which few entities are rather series than things to compare."""
_SERIES_PURPOSES = frozenset({"forecast", "anomaly"})
_ENTITY_PURPOSES = frozenset({"churn", "engagement", "recommendation", "value", "fraud"})
_LATE = stemmed("birth birthday dob birthdate updated modified deleted expiry end")
"""Times that seldom are the time of the row."""
_EARLY = stemmed("event timestamp ts time order purchase created transaction visit")


class Setting(Struct, frozen=True):
    """What a plan is built on."""

    grain: Grain
    entity: Seen | None
    """In row grain: whose earlier rows a row may look back on."""
    time: Seen | None
    groups: tuple[Seen, ...] = ()


def settle(reading: Reading, sheet: Sheet, events: Sequence[Event], options: ExtractionOptions) -> Setting:
    """Decide by the client's options, then by the sentence, then by what the columns are."""
    time = _time(sheet, options)
    per, by = _spoken_of(reading.per, sheet), _spoken_of(reading.by, sheet)
    groups = tuple(seen for seen in by if seen in sheet.categories or seen in sheet.flags)
    likely = _likely(sheet)
    told = any(event.spoken and event.where for event in events)
    explicit = _first(seen for seen in (*per, *by) if sheet.repeats(seen) and (seen in per or seen in likely or told))
    entity = sheet.find(options.entity) or explicit or _first(likely)
    if entity is None or _wants_rows(reading, sheet, explicit or sheet.find(options.entity)):
        return Setting("row", entity if time else sheet.find(options.entity), time, groups)
    if groups and not explicit and not options.entity and not entity.spoken:
        return Setting("row", entity if time else None, time, groups)
    if options.entity or explicit or _worthwhile(entity, reading, sheet, events, timed=time is not None):
        return Setting("entity", entity, time, groups)
    return Setting("row", entity if time else None, time, groups)


def _first(columns: Iterable[Seen]) -> Seen | None:
    return next(iter(columns), None)


def _spoken_of(phrases: Iterable[Sequence[str]], sheet: Sheet) -> tuple[Seen, ...]:
    """The columns that noun phrases name, the plainest first."""
    groupable = (
        *sheet.keys,
        *sheet.categories,
        *sheet.flags,
        *(s for s in sheet.numbers if s.column.type == "integer"),
    )
    found: dict[str, Seen] = {}
    for phrase in phrases:
        strengths = [(mention(seen.stems, phrase), seen) for seen in groupable]
        strongest = max((strength for strength, _ in strengths), default=0)
        for strength, seen in strengths:
            if strength == strongest > 0:
                found.setdefault(seen.name, seen)
    return tuple(seen for seen in found.values() if seen.column.type != "boolean")


def _likely(sheet: Sheet) -> tuple[Seen, ...]:
    """Columns whose values come again and tell things apart, the likeliest entity first."""
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


def _wants_rows(reading: Reading, sheet: Sheet, explicit: Seen | None) -> bool:
    if reading.rows:
        return True
    if reading.says("lag", "rolling", "cumulative"):
        return bool(sheet.times)
    about_text = reading.says("length", "words", "contains", "characters") or not TEXTUAL.isdisjoint(reading.words)
    if sheet.texts and about_text and explicit is None:
        return True
    one_each = [seen for seen in _spoken_of(reading.per, sheet) if not sheet.repeats(seen)]
    return explicit is None and (bool(one_each) or (reading.says("change") and bool(sheet.times)))


def _worthwhile(entity: Seen, reading: Reading, sheet: Sheet, events: Sequence[Event], *, timed: bool) -> bool:
    """Whether a sentence that names no entity is better served by one row for each."""
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
