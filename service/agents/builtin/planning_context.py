"""Hold what is known before features are proposed: the sentence, the columns, the events, the entity and the time."""

from __future__ import annotations

from msgspec import Struct

from service.agents.builtin.candidates import ASIDE, ASKED, GENERAL, NAMED, RELATED
from service.agents.builtin.columns import ColumnIndex, ColumnMatch
from service.agents.builtin.conditions import Condition
from service.agents.builtin.events import Event
from service.agents.builtin.lexicon import Intent
from service.agents.builtin.reading import Reading
from service.agents.builtin.relations import Relation
from service.agents.words import mention

MIN_NAMED_STRENGTH = 2
"""From this strength on the sentence has a word of the column's name."""


class PlanningContext(Struct, frozen=True):
    """Hold everything that candidate features are proposed from."""

    reading: Reading
    columns: ColumnIndex
    events: tuple[Event, ...]
    entity: ColumnMatch | None
    time: ColumnMatch | None
    groups: tuple[ColumnMatch, ...] = ()
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
    def key_names(self) -> frozenset[str]:
        """Return the names of the entity and time columns, which are not measurements."""
        return frozenset(match.name for match in (self.entity, self.time) if match is not None)

    @property
    def numbers(self) -> tuple[ColumnMatch, ...]:
        """Return the numeric columns without the entity and time columns."""
        return tuple(match for match in self.columns.numbers if match.name not in self.key_names)

    @property
    def categories(self) -> tuple[ColumnMatch, ...]:
        """Return the categorical columns without the entity and time columns."""
        return tuple(match for match in self.columns.categories if match.name not in self.key_names)

    def named(self, match: ColumnMatch) -> bool:
        """Check whether the sentence names the column, or means it and names no like column more clearly."""
        if match.strength >= MIN_NAMED_STRENGTH:
            return True
        rivals = (
            other for other in self.columns.usable if other.name != match.name and other.strength >= MIN_NAMED_STRENGTH
        )
        return match.strength == 1 and not any(other.meanings & match.meanings for other in rivals)

    def asked_of(self, match: ColumnMatch, *intents: Intent) -> bool:
        """Check whether a statistic is requested of the column.

        "average mass and ratio of lengths" requests no average of a length. If the clauses with the statistic name no
        column, it is requested of every column that the sentence names.
        """
        if not self.reading.says(*intents):
            return False
        beside = [clause.words for clause in self.reading.clauses if not clause.intents.isdisjoint(intents)]
        if any(mention(other.stems, words) >= MIN_NAMED_STRENGTH for other in self.measures for words in beside):
            return self.named(match) and any(mention(match.stems, words) > 0 for words in beside)
        return self.named(match)

    @property
    def measures(self) -> tuple[ColumnMatch, ...]:
        """Return the columns that statistics may be about: named, and neither entity, time nor group."""
        excluded = self.key_names | {match.name for match in self.groups}
        return tuple(
            match
            for match in self.columns.usable
            if match.strength >= MIN_NAMED_STRENGTH and match.name not in excluded
        )

    def score(self, base: float, *intents: Intent, match: ColumnMatch | None = None) -> float:
        """Score a feature: requested by statistic and column, by one of them, or useful in general.

        `base` (0 … 1) ranks the feature among those that the sentence does not request.
        """
        if match is None:
            return ASKED + base if self.reading.says(*intents) else min(base, GENERAL)
        if self.asked_of(match, *intents):
            return ASKED + base + match.strength / 10
        if not self.named(match):
            return min(base, GENERAL)
        if self.reading.intents and not self.reading.broad:
            return ASIDE + base
        return (NAMED if match.strength >= MIN_NAMED_STRENGTH else RELATED) + base
