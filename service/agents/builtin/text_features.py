"""Candidates of the row grain about text: its size, its characters, the words looked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from service.agents.builtin.candidates import ASKED, RELATED, Candidate, describe, slug
from service.agents.builtin.lexicon import TEXTUAL
from service.agents.builtin.scene import Scene
from service.agents.builtin.sheet import Seen
from service.features.operations import CharacterShare, TextContains, TextLength, WordCount

_CHARACTERS: tuple[tuple[Literal["punctuation", "uppercase", "digit"], str, float, tuple[str, ...]], ...] = (
    ("punctuation", "punctuation", 0.4, ("punctuation", "exclam", "question")),
    ("uppercase", "upper case", 0.45, ("uppercas", "capital", "shout")),
    ("digit", "digits", 0.3, ("digit", "number")),
)
"""Class of characters, its words, its rank when nobody asks, and the stems that ask for it."""
OPINIONS = (("good", "great", "love"), ("bad", "poor", "not"))
"""Words that a sentence about sentiment makes worth looking for: there is no model of language here."""


def text_candidates(scene: Scene) -> Iterator[Candidate]:
    """Everything about the text columns."""
    for seen in scene.sheet.texts:
        yield from _size(scene, seen)
        yield from _characters(scene, seen)
        yield from _terms(scene, seen)


def _about(scene: Scene, seen: Seen) -> float:
    """How much the sentence is about this text: all texts count when it names none."""
    if scene.named(seen) or not any(scene.named(other) for other in scene.sheet.texts):
        return ASKED
    return 0.0


def _size(scene: Scene, seen: Seen) -> Iterator[Candidate]:
    about, reading = _about(scene, seen), scene.reading
    for operation, name, words, asked, base in (
        (
            WordCount(seen.name),
            f"{seen.slug}_word_count",
            f"Words in {seen.name}",
            reading.says("words", "count"),
            0.65,
        ),
        (TextLength(seen.name), f"{seen.slug}_length", f"Characters in {seen.name}", reading.says("length"), 0.6),
    ):
        score = about + base if asked and about else scene.score(base, seen=seen)
        yield Candidate(operation, name, describe(f"{words}."), score, "text", seen.name, f"size:{seen.name}")


def _characters(scene: Scene, seen: Seen) -> Iterator[Candidate]:
    about = _about(scene, seen)
    for characters, words, base, stems in _CHARACTERS:
        asked = not scene.reading.intents.isdisjoint({"characters"}) and any(
            word in stems for word in scene.reading.words
        )
        yield Candidate(
            CharacterShare(seen.name, characters),
            f"{seen.slug}_{characters}_share",
            describe(f"Share of the characters of {seen.name} that are {words}."),
            about + base if asked and about else scene.score(base, seen=seen),
            "text",
            seen.name,
        )


def _terms(scene: Scene, seen: Seen) -> Iterator[Candidate]:
    about = _about(scene, seen)
    asked = [(term, about + 0.5 if about else 0.2) for term in scene.reading.terms]
    if not TEXTUAL.isdisjoint(scene.reading.words) and about:
        asked += [(term, RELATED) for terms in OPINIONS for term in terms]
    for position, (term, score) in enumerate(asked):
        yield Candidate(
            TextContains(seen.name, term),
            f"{seen.slug}_has_{slug(term, position)}",
            describe(f"1 where {seen.name} contains {term!r}, else 0."),
            score,
            "text",
            seen.name,
        )
