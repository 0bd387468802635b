"""What is settled before features are thought of: the sentence, the columns, the events, entity and time."""

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
"""`Seen.spoken` from here on: the sentence has a word of the column's name."""


class Scene(Struct, frozen=True):
    """Everything that the makers of candidates look at."""

    reading: Reading
    sheet: Sheet
    events: tuple[Event, ...]
    entity: Seen | None
    time: Seen | None
    groups: tuple[Seen, ...] = ()
    """Columns that the sentence groups by."""
    conditions: tuple[Condition, ...] = ()
    """Which rows the sentence singles out."""
    relations: tuple[Relation, ...] = ()
    """Arithmetic that the sentence spells out."""

    @property
    def who(self) -> str:
        """The entity in a description."""
        return self.entity.name if self.entity else "row"

    @property
    def others(self) -> frozenset[str]:
        """Names of the columns that hold the plan together and are no measurement."""
        return frozenset(seen.name for seen in (self.entity, self.time) if seen is not None)

    @property
    def numbers(self) -> tuple[Seen, ...]:
        """Numeric columns but for the keys of the plan."""
        return tuple(seen for seen in self.sheet.numbers if seen.name not in self.others)

    @property
    def categories(self) -> tuple[Seen, ...]:
        """Categorical columns but for the keys of the plan."""
        return tuple(seen for seen in self.sheet.categories if seen.name not in self.others)

    def named(self, seen: Seen) -> bool:
        """Whether the sentence names the column, or means it and names no column of its meaning more plainly."""
        if seen.spoken >= NAMED_PLAINLY:
            return True
        rivals = (other for other in self.sheet.usable if other.name != seen.name and other.spoken >= NAMED_PLAINLY)
        return seen.spoken == 1 and not any(other.meanings & seen.meanings for other in rivals)

    def asked_of(self, seen: Seen, *intents: Intent) -> bool:
        """Whether a statistic is asked of the column: "average mass and ratio of lengths" asks no average of a length.

        Where the clauses of the statistic name no column at all, it is asked of every column that the sentence names.
        """
        if not self.reading.says(*intents):
            return False
        beside = [clause.words for clause in self.reading.clauses if not clause.intents.isdisjoint(intents)]
        if any(mention(other.stems, words) >= NAMED_PLAINLY for other in self.measures for words in beside):
            return self.named(seen) and any(mention(seen.stems, words) > 0 for words in beside)
        return self.named(seen)

    @property
    def measures(self) -> tuple[Seen, ...]:
        """What statistics are asked of: every named column that does not hold the plan together."""
        apart = self.others | {seen.name for seen in self.groups}
        return tuple(seen for seen in self.sheet.usable if seen.spoken >= NAMED_PLAINLY and seen.name not in apart)

    def score(self, base: float, *intents: Intent, seen: Seen | None = None) -> float:
        """How much a feature is wanted: by the statistic and the column together, by one of them, or in general.

        `base` (0 … 1) ranks the feature among those that nobody asked for.
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
