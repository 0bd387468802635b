"""Hold what is known before features are proposed: the sentence, the columns, the events, the entity and the time."""

from __future__ import annotations

from msgspec import Struct

from service.agents.builtin.candidates import ASIDE, ASKED, GENERAL, NAMED, RELATED
from service.agents.builtin.conditions import Condition
from service.agents.builtin.events import Event
from service.agents.builtin.lexicon import Intent
from service.agents.builtin.reading import Reading
from service.agents.builtin.relations import Relation
from service.agents.builtin.sheet import Seen, Sheet
from service.agents.words import mention

NAMED_PLAINLY = 2
"""From this strength on the sentence has a word of the column's name."""


class Scene(Struct, frozen=True):
    """Hold everything that candidate features are proposed from."""

    reading: Reading
    sheet: Sheet
    events: tuple[Event, ...]
    entity: Seen | None
    time: Seen | None
    groups: tuple[Seen, ...] = ()
    """Columns that the sentence groups by."""
    conditions: tuple[Condition, ...] = ()
    """Conditions that select rows."""
    relations: tuple[Relation, ...] = ()
    """Arithmetic that the sentence states."""

    @property
    def who(self) -> str:
        """Return the entity's name for descriptions."""
        return self.entity.name if self.entity else "row"

    @property
    def others(self) -> frozenset[str]:
        """Return the names of the entity and time columns, which are not measurements."""
        return frozenset(seen.name for seen in (self.entity, self.time) if seen is not None)

    @property
    def numbers(self) -> tuple[Seen, ...]:
        """Return the numeric columns without the entity and time columns."""
        return tuple(seen for seen in self.sheet.numbers if seen.name not in self.others)

    @property
    def categories(self) -> tuple[Seen, ...]:
        """Return the categorical columns without the entity and time columns."""
        return tuple(seen for seen in self.sheet.categories if seen.name not in self.others)

    def named(self, seen: Seen) -> bool:
        """Check whether the sentence names the column, or means it and names no like column more clearly."""
        if seen.spoken >= NAMED_PLAINLY:
            return True
        rivals = (other for other in self.sheet.usable if other.name != seen.name and other.spoken >= NAMED_PLAINLY)
        return seen.spoken == 1 and not any(other.meanings & seen.meanings for other in rivals)

    def asked_of(self, seen: Seen, *intents: Intent) -> bool:
        """Check whether a statistic is requested of the column.

        "average mass and ratio of lengths" requests no average of a length. If the clauses with the statistic name no
        column, it is requested of every column that the sentence names.
        """
        if not self.reading.says(*intents):
            return False
        beside = [clause.words for clause in self.reading.clauses if not clause.intents.isdisjoint(intents)]
        if any(mention(other.stems, words) >= NAMED_PLAINLY for other in self.measures for words in beside):
            return self.named(seen) and any(mention(seen.stems, words) > 0 for words in beside)
        return self.named(seen)

    @property
    def measures(self) -> tuple[Seen, ...]:
        """Return the columns that statistics may be about: named, and neither entity, time nor group."""
        apart = self.others | {seen.name for seen in self.groups}
        return tuple(seen for seen in self.sheet.usable if seen.spoken >= NAMED_PLAINLY and seen.name not in apart)

    def score(self, base: float, *intents: Intent, seen: Seen | None = None) -> float:
        """Score a feature: requested by statistic and column, by one of them, or useful in general.

        `base` (0 … 1) ranks the feature among those that the sentence does not request.
        """
        if seen is None:
            return ASKED + base if self.reading.says(*intents) else min(base, GENERAL)
        if self.asked_of(seen, *intents):
            return ASKED + base + seen.spoken / 10
        if not self.named(seen):
            return min(base, GENERAL)
        if self.reading.intents and not self.reading.broad:
            return ASIDE + base
        return (NAMED if seen.spoken >= NAMED_PLAINLY else RELATED) + base
