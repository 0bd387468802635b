"""Find the events of a dataset: values of an event column, yes/no columns, counters, or the rows themselves."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from service.agents.builtin.candidates import conditions, slug
from service.agents.builtin.columns import ColumnIndex, ColumnMatch, has_meaning, meaningful_stems, true_value
from service.agents.builtin.reading import Reading
from service.agents.words import meanings, stemmed
from service.features.operations import Predicate, Scalar

EVENT_KINDS = frozenset((
    "impression", "click", "cart", "purchase", "signup", "login", "refund", "search", "like", "error", "default",
    "churn",
))  # fmt: skip
FUNNEL = ("impression", "click", "cart", "purchase")
"""Steps of the funnel, in the order in which a visitor goes through them."""
_COLUMN_WORDS = stemmed(
    "event action activity interaction type status state outcome result kind behavior behaviour verb"
)
_COUNTER_WORDS = stemmed("number num count total n nb page product qty of unique add to")
MAX_KINDS = 40
"""Above this number of distinct values a column does not name kinds of events."""
MAX_EVENTS = 12


class Event(Struct, frozen=True):
    """Describe one kind of event and the rows that are such events."""

    name: str
    """The event's part of a feature's name: `click`, `add_to_cart`."""
    meanings: frozenset[str]
    where: tuple[Predicate, ...] = ()
    """Empty when every row is such an event."""
    counter: str | None = None
    """The numeric column that already counts such events in each row."""
    mentioned: bool = False
    """Whether the sentence mentions it."""

    @property
    def words(self) -> str:
        """Describe in plain words how the event is recognised."""
        if self.counter:
            return f"the column {self.counter}"
        return f"rows where {conditions(self.where)}" if self.where else "every row"


def find_events(columns: ColumnIndex, reading: Reading) -> tuple[Event, ...]:
    """Return the kinds of events: those that the sentence mentions first, then in the funnel's order."""
    found = (*_from_column(columns, reading), *_from_flags(columns, reading), *_from_counters(columns, reading))
    if not any("purchase" in event.meanings for event in found):
        found = (*found, *_from_rows(columns, reading))
    unique = {event.name: event for event in reversed(found)}
    return tuple(
        sorted(unique.values(), key=lambda event: (not event.mentioned, _step(event), event.name))[:MAX_EVENTS]
    )


def funnel(events: Sequence[Event]) -> dict[str, Event]:
    """Map each funnel step that the dataset has to its event."""
    steps: dict[str, Event] = {}
    for step in FUNNEL:
        of_step = [event for event in events if step in event.meanings]
        if of_step:
            steps[step] = min(of_step, key=lambda event: (event.name != step, not event.mentioned, len(event.name)))
    return steps


def _step(event: Event) -> int:
    return min((FUNNEL.index(meaning) for meaning in event.meanings if meaning in FUNNEL), default=len(FUNNEL))


def event_column(columns: ColumnIndex) -> ColumnMatch | None:
    """Return the categorical column whose values name kinds of events."""
    ranked = sorted(
        (match for match in columns.categories if match.column.distinct <= MAX_KINDS and match.column.values),
        key=_event_score,
        reverse=True,
    )
    return ranked[0] if ranked and _event_score(ranked[0]) > 1 else None


def _event_score(match: ColumnMatch) -> int:
    if has_meaning(match, "platform", "place", "channel", "item"):
        return 0
    values = sum(bool(event_kinds(parts)) for _, parts in match.values)
    named = bool(_COLUMN_WORDS.intersection(match.stems))
    return 2 * values + named if values else 2 * ("event" in match.stems or "action" in match.stems)


def event_kinds(words: Sequence[str]) -> frozenset[str]:
    """Return the kinds of events that the words mean."""
    return meanings(words) & EVENT_KINDS


def _from_column(columns: ColumnIndex, reading: Reading) -> tuple[Event, ...]:
    match = event_column(columns)
    if match is None:
        return ()
    return tuple(
        Event(
            slug(str(value), index),
            event_kinds(parts),
            (equals(match.name, value),),
            mentioned=_mentions(parts, reading),
        )
        for index, (value, parts) in enumerate(match.values)
    )


def _from_flags(columns: ColumnIndex, reading: Reading) -> tuple[Event, ...]:
    flags = [*columns.flags, *(match for match in columns.categories if true_value(match) is not None)]
    found: list[Event] = []
    for match in flags:
        value, meanings = true_value(match), event_kinds(match.stems)
        if value is not None and meanings:
            where = (equals(match.name, value),)
            found.append(
                Event(match.slug, meanings, where, mentioned=_mentions(tuple(meaningful_stems(match)), reading))
            )
    return tuple(found)


def _from_counters(columns: ColumnIndex, reading: Reading) -> tuple[Event, ...]:
    return tuple(
        Event(match.slug, event_kinds(match.stems), counter=match.name, mentioned=_mentions(match.stems, reading))
        for match in columns.numbers
        if event_kinds(match.stems)
        and all(word in _COUNTER_WORDS or event_kinds((word,)) for word in match.stems)
        and match.column.type == "integer"
    )


def _from_rows(columns: ColumnIndex, reading: Reading) -> tuple[Event, ...]:
    """Treat every row as a purchase if the table has order keys, or prices and quantities."""
    ordered = any("purchase" in event_kinds(match.stems) for match in (*columns.keys, *columns.times))
    sold = any(has_meaning(match, "money") for match in columns.numbers) and any(
        has_meaning(match, "quantity") for match in columns.numbers
    )
    if not (ordered or sold) or event_column(columns) is not None:
        return ()
    return (Event("purchase", frozenset({"purchase"}), mentioned=_mentions(("purchas",), reading)),)


def _mentions(words: Sequence[str], reading: Reading) -> bool:
    """Check whether the sentence has the words themselves, or one that means the same kind of event."""
    required = [word for word in words if word not in {"to", "add"}]
    literal = bool(required) and all(word in reading.sentence for word in required)
    return literal or not event_kinds(words).isdisjoint(reading.meanings)


def equals(column: str, value: Scalar) -> Predicate:
    """Build the predicate that a column equals a value."""
    return Predicate(column, "eq", (value,))
