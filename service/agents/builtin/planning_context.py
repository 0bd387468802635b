"""Hold what is known before features are proposed: the sentence, the columns, the events, the entity and the time."""

from __future__ import annotations

from functools import cached_property

from msgspec import Struct

from service.agents.builtin.candidates import ASIDE, ASKED, GENERAL, NAMED, RELATED
from service.agents.builtin.columns import ColumnIndex, ColumnMatch
from service.agents.builtin.conditions import Condition
from service.agents.builtin.events import Event
from service.agents.builtin.lexicon import Intent
from service.agents.builtin.reading import Reading
from service.agents.builtin.relations import Relation
from service.agents.words import mention
from service.concurrency.threads import checked

MIN_NAMED_STRENGTH = 2
"""From this strength on the sentence has a word of the column's name."""


class ClauseColumns(Struct, frozen=True):
    """Hold the statistics of a clause and the columns that it mentions."""

    intents: frozenset[Intent]
    columns: frozenset[str]
    telling: bool
    """Whether it names a column that a statistic may be about."""


class PlanningContext(Struct, frozen=True, dict=True):
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
    conditions_left_out: bool = False
    """Whether the sentence has more conditions."""

    @property
    def who(self) -> str:
        """Return the entity's name for descriptions."""
        return self.entity.name if self.entity else "row"

    @cached_property
    def key_names(self) -> frozenset[str]:
        """Return the names of the entity and time columns, which are not measurements."""
        return frozenset(match.name for match in (self.entity, self.time) if match is not None)

    @cached_property
    def numbers(self) -> tuple[ColumnMatch, ...]:
        """Return the numeric columns without the entity and time columns."""
        return tuple(match for match in self.columns.numbers if match.name not in self.key_names)

    @cached_property
    def categories(self) -> tuple[ColumnMatch, ...]:
        """Return the categorical columns without the entity and time columns."""
        return tuple(match for match in self.columns.categories if match.name not in self.key_names)

    def named(self, match: ColumnMatch) -> bool:
        """Check whether the sentence names the column, or means it and names no like column more clearly."""
        if match.strength >= MIN_NAMED_STRENGTH:
            return True
        return match.strength == 1 and not self._rival_meanings & match.meanings

    @cached_property
    def names_number(self) -> bool:
        """Return whether the sentence names a numeric column."""
        return any(map(self.named, self.numbers))

    @cached_property
    def _rival_meanings(self) -> frozenset[str]:
        """Return the meanings of the columns that are named clearly."""
        named = (match for match in self.columns.usable if match.strength >= MIN_NAMED_STRENGTH)
        return frozenset(meaning for match in named for meaning in match.meanings)

    def asked_of(self, match: ColumnMatch, *intents: Intent) -> bool:
        """Check whether a statistic is requested of the column.

        "average mass and ratio of lengths" requests no average of a length. If the clauses with the statistic name no
        column, it is requested of every column that the sentence names.
        """
        if not self.reading.says(*intents) or not self.named(match):
            return False
        beside = [clause for clause in self._clauses if not clause.intents.isdisjoint(intents)]
        return not any(clause.telling for clause in beside) or any(match.name in clause.columns for clause in beside)

    @cached_property
    def _clauses(self) -> tuple[ClauseColumns, ...]:
        """Return which columns each clause with a statistic mentions."""
        return tuple(
            ClauseColumns(
                clause.intents,
                frozenset(match.name for match in self.columns.usable if mention(match.stems, clause.phrase) > 0),
                any(mention(match.stems, clause.phrase) >= MIN_NAMED_STRENGTH for match in self.measures),
            )
            for clause in checked(self.reading.clauses)
            if clause.intents
        )

    @cached_property
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
