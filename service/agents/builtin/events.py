"""Things that happen in a dataset: values of an event column, yes/no columns, counters, or the rows themselves."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from service.agents.builtin.candidates import conditions, slug
from service.agents.builtin.reading import Reading
from service.agents.builtin.sheet import Seen, Sheet, means, telling, truth
from service.agents.words import concepts, stemmed, stems
from service.features.operations import Predicate, Scalar

HAPPENINGS = frozenset((
    "impression", "click", "cart", "purchase", "signup", "login", "refund", "search", "like", "error", "default",
    "churn",
))  # fmt: skip
FUNNEL = ("impression", "click", "cart", "purchase")
"""The order in which a visitor goes on."""
_COLUMN_WORDS = stemmed(
    "event action activity interaction type status state outcome result kind behavior behaviour verb"
)
_COUNTER_WORDS = stemmed("number num count total n nb page product qty of unique add to")
MAX_KINDS = 40
"""Distinct values over which a column does not name kinds of events."""
MAX_EVENTS = 12


class Event(Struct, frozen=True):
    """One kind of event and how to tell it."""

    name: str
    """As a feature's name has it: `click`, `add_to_cart`."""
    meanings: frozenset[str]
    where: tuple[Predicate, ...] = ()
    """Empty when every row is such an event."""
    counter: str | None = None
    """The numeric column that already counts such events in each row."""
    spoken: bool = False
    """Whether the sentence mentions it."""

    @property
    def words(self) -> str:
        """How it is told, in plain words."""
        if self.counter:
            return f"the column {self.counter}"
        return f"rows where {conditions(self.where)}" if self.where else "every row"


def find_events(sheet: Sheet, reading: Reading) -> tuple[Event, ...]:
    """The kinds of events, mentioned ones first, then in the funnel's order."""
    found = (*_from_column(sheet, reading), *_from_flags(sheet, reading), *_from_counters(sheet, reading))
    if not any("purchase" in event.meanings for event in found):
        found = (*found, *_from_rows(sheet, reading))
    unique = {event.name: event for event in reversed(found)}
    return tuple(sorted(unique.values(), key=lambda event: (not event.spoken, _step(event), event.name))[:MAX_EVENTS])


def funnel(events: Sequence[Event]) -> dict[str, Event]:
    """The event of each step of the funnel that the dataset has."""
    steps: dict[str, Event] = {}
    for step in FUNNEL:
        of_step = [event for event in events if step in event.meanings]
        if of_step:
            steps[step] = min(of_step, key=lambda event: (event.name != step, not event.spoken, len(event.name)))
    return steps


def _step(event: Event) -> int:
    return min((FUNNEL.index(meaning) for meaning in event.meanings if meaning in FUNNEL), default=len(FUNNEL))


def event_column(sheet: Sheet) -> Seen | None:
    """The categorical column whose values name kinds of events."""
    ranked = sorted(
        (seen for seen in sheet.categories if seen.column.distinct <= MAX_KINDS and seen.column.values),
        key=_eventfulness,
        reverse=True,
    )
    return ranked[0] if ranked and _eventfulness(ranked[0]) > 1 else None


def _eventfulness(seen: Seen) -> int:
    if means(seen, "platform", "place", "channel", "item"):
        return 0
    values = sum(bool(happenings(stems(str(value.value)))) for value in seen.column.values)
    named = bool(_COLUMN_WORDS.intersection(seen.stems))
    return 2 * values + named if values else 2 * ("event" in seen.stems or "action" in seen.stems)


def happenings(words: Sequence[str]) -> frozenset[str]:
    """The kinds of events that words speak of."""
    return frozenset(group for word in words for group in concepts(word)) & HAPPENINGS


def _from_column(sheet: Sheet, reading: Reading) -> tuple[Event, ...]:
    seen = event_column(sheet)
    if seen is None:
        return ()
    return tuple(
        Event(
            slug(str(entry.value), index),
            happenings(stems(str(entry.value))),
            (equals(seen.name, entry.value),),
            spoken=_spoken(stems(str(entry.value)), reading),
        )
        for index, entry in enumerate(seen.column.values)
    )


def _from_flags(sheet: Sheet, reading: Reading) -> tuple[Event, ...]:
    columns = [*sheet.flags, *(seen for seen in sheet.categories if truth(seen) is not None)]
    found: list[Event] = []
    for seen in columns:
        value, meanings = truth(seen), happenings(seen.stems)
        if value is not None and meanings:
            where = (equals(seen.name, value),)
            found.append(Event(seen.slug, meanings, where, spoken=_spoken(tuple(telling(seen)), reading)))
    return tuple(found)


def _from_counters(sheet: Sheet, reading: Reading) -> tuple[Event, ...]:
    return tuple(
        Event(seen.slug, happenings(seen.stems), counter=seen.name, spoken=_spoken(seen.stems, reading))
        for seen in sheet.numbers
        if happenings(seen.stems)
        and all(word in _COUNTER_WORDS or happenings((word,)) for word in seen.stems)
        and seen.column.type == "integer"
    )


def _from_rows(sheet: Sheet, reading: Reading) -> tuple[Event, ...]:
    """A table with order keys, or with prices and quantities, is a list of purchases."""
    ordered = any("purchase" in happenings(seen.stems) for seen in (*sheet.keys, *sheet.times))
    sold = any(means(seen, "money") for seen in sheet.numbers) and any(
        means(seen, "quantity") for seen in sheet.numbers
    )
    if not (ordered or sold) or event_column(sheet) is not None:
        return ()
    return (Event("purchase", frozenset({"purchase"}), spoken=_spoken(("purchas",), reading)),)


def _spoken(words: Sequence[str], reading: Reading) -> bool:
    """The sentence has the words themselves, or one that means the same kind of event."""
    told = [word for word in words if word not in {"to", "add"}]
    literal = bool(told) and all(word in reading.words for word in told)
    return literal or not happenings(words).isdisjoint(happenings(reading.words))


def equals(column: str, value: Scalar) -> Predicate:
    """The predicate that a column holds a value."""
    return Predicate(column, "eq", (value,))
