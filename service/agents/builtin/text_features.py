"""Propose row features of text: its size, its characters, the words it contains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from service.agents.builtin.candidates import ASKED, RELATED, Candidate, describe, slug
from service.agents.builtin.columns import ColumnMatch
from service.agents.builtin.lexicon import TEXTUAL
from service.agents.builtin.planning_context import PlanningContext
from service.features.operations import CharacterShare, TextContains, TextLength, WordCount

_CHARACTERS: tuple[tuple[Literal["punctuation", "uppercase", "digit"], str, float, tuple[str, ...]], ...] = (
    ("punctuation", "punctuation", 0.4, ("punctuation", "exclam", "question")),
    ("uppercase", "upper case", 0.45, ("uppercas", "capital", "shout")),
    ("digit", "digits", 0.3, ("digit", "number")),
)
"""Character class, its words, its score without a request, and the stems that request it."""
OPINIONS = (("good", "great", "love"), ("bad", "poor", "not"))
"""Words to search for when the sentence asks for sentiment; there is no language model here."""


def text_candidates(context: PlanningContext) -> Iterator[Candidate]:
    """Propose every feature of the text columns."""
    for match in context.columns.texts:
        yield from _size(context, match)
        yield from _characters(context, match)
        yield from _terms(context, match)


def _about(context: PlanningContext, match: ColumnMatch) -> float:
    """Score how much the sentence is about this text; all texts count if it names none."""
    if context.named(match) or not any(context.named(other) for other in context.columns.texts):
        return ASKED
    return 0.0


def _size(context: PlanningContext, match: ColumnMatch) -> Iterator[Candidate]:
    about, reading = _about(context, match), context.reading
    for operation, name, words, asked, base in (
        (
            WordCount(match.name),
            f"{match.slug}_word_count",
            f"Words in {match.name}",
            reading.says("words", "count"),
            0.65,
        ),
        (TextLength(match.name), f"{match.slug}_length", f"Characters in {match.name}", reading.says("length"), 0.6),
    ):
        score = about + base if asked and about else context.score(base, match=match)
        yield Candidate(operation, name, describe(f"{words}."), score, "text", match.name, f"size:{match.name}")


def _characters(context: PlanningContext, match: ColumnMatch) -> Iterator[Candidate]:
    about = _about(context, match)
    for characters, words, base, stems in _CHARACTERS:
        asked = not context.reading.intents.isdisjoint({"characters"}) and any(
            word in stems for word in context.reading.sentence.set
        )
        yield Candidate(
            CharacterShare(match.name, characters),
            f"{match.slug}_{characters}_share",
            describe(f"Share of the characters of {match.name} that are {words}."),
            about + base if asked and about else context.score(base, match=match),
            "text",
            match.name,
        )


def _terms(context: PlanningContext, match: ColumnMatch) -> Iterator[Candidate]:
    about = _about(context, match)
    asked = [(term, about + 0.5 if about else 0.2) for term in context.reading.terms]
    if not TEXTUAL.isdisjoint(context.reading.sentence.set) and about:
        asked += [(term, RELATED) for terms in OPINIONS for term in terms]
    for position, (term, score) in enumerate(asked):
        yield Candidate(
            TextContains(match.name, term),
            f"{match.slug}_has_{slug(term, position)}",
            describe(f"1 where {match.name} contains {term!r}, else 0."),
            score,
            "text",
            match.name,
        )
