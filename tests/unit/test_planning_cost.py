"""The built-in planner's work, counted in function calls: it grows with the sentence and the columns, and no faster."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.benchmarks.planner.workloads import MAX_CHARACTERS, NAMES, SENTENCES, profile
from service.agents.builtin.model import NAME, BuiltinPlanner
from service.agents.builtin.plan import make_plan
from service.agents.builtin.spelling import MAX_LETTERS, MIN_LETTERS, MIN_SWAPPED_LETTERS, Vocabulary
from service.agents.output import Impossible
from service.agents.planner import AgentPlanner
from service.agents.prompts import MAX_DESCRIPTION, build_request, parse, render
from service.agents.words import MAX_SENTENCE_WORDS, Abbreviations, beginning, same, tokens
from service.features.model import ExtractionOptions, FeaturePlan, Profile
from tests.doubles import Recorder
from tests.integration.test_planner import request

MAX_CALLS = 3_000_000
"""Python and C functions for a sentence on 400 columns; the dearest takes about a half of it."""
PROFILES = {names: profile(400, names) for names in NAMES}


def calls(work: Callable[[], object]) -> int:
    """Return how many functions the work calls."""
    number = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal number
        number += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return number


def plan(sentence: str, data: Profile, features: int = 200) -> FeaturePlan | Impossible:
    """Plan as the service does."""
    return make_plan(parse(render(build_request(sentence, data, ExtractionOptions(max_features=features)))))


@pytest.mark.parametrize("kind", SENTENCES)
def test_bounded(kind: str) -> None:
    """The longest sentence of any kind takes a bounded number of steps on columns of awkward names."""
    names = "camel case" if kind == "divisions" else "similar"
    assert calls(lambda: plan(SENTENCES[kind](MAX_CHARACTERS), PROFILES[names])) < MAX_CALLS


@pytest.mark.parametrize("kind", SENTENCES)
def test_linear_in_the_sentence(kind: str) -> None:
    """Twice the sentence takes at most twice the steps, and some."""
    data = profile(20, "plain")
    # Whole words: of a sentence that ends within one, the rest may be refused as unknown, and that costs nothing.
    long, short = (SENTENCES[kind](size).rsplit(" ", 1)[0] for size in (4_000, 2_000))
    half, whole = (calls(lambda sentence=sentence: plan(sentence, data)) for sentence in (short, long))
    assert whole < 2.5 * half


def test_linear_in_the_columns() -> None:
    """Twice the columns take at most twice the steps, and some."""
    small, large = profile(50, "plain"), profile(100, "plain")
    sentence = SENTENCES["prose"](400)
    assert calls(lambda: plan(sentence, large, 20)) < 2.5 * calls(lambda: plan(sentence, small, 20))


def test_what_is_cut_is_said() -> None:
    """Of what is too much, a plan says what was not read."""
    data = profile(20, "plain")
    words = plan("total amount of " + "aB" * 1_900, data)
    windows = plan("total amount in the last " + ", ".join(f"{days} days" for days in range(1, 30)), data)
    assert isinstance(words, FeaturePlan)
    assert isinstance(windows, FeaturePlan)
    assert any(f"the words after the first {MAX_SENTENCE_WORDS}" in step for step in words.steps)
    assert any("spans of time after the first 12" in step for step in windows.steps)
    short = plan("total amount", data)
    assert isinstance(short, FeaturePlan)
    assert not any("Not read" in step for step in short.steps)


async def test_characters_that_no_model_is_shown_are_said() -> None:
    """A plan says how much of a long sentence was read, whichever model made it."""
    planner = AgentPlanner(BuiltinPlanner(), name=NAME, observer=Recorder())
    proposal = await planner.propose(request("clicks per user " * 400))
    assert proposal.plan.steps[-1] == f"Only the first {MAX_DESCRIPTION} of the request's 6400 characters were read."


@given(st.text(alphabet="aBcD1_ .ßÉ\ufdfa\u00b2", max_size=200), st.integers(1, 40))
def test_beginning(text: str, limit: int) -> None:
    """The beginning of a text has at most so many words, and is the whole of a text that has no more."""
    kept = beginning(text, limit)
    assert text.startswith(kept)
    assert len(tokens(kept)) <= limit


@given(st.text(alphabet="abAB12_-", max_size=40))
def test_tokens_of_ascii(text: str) -> None:
    """ASCII text is split as other text is: a letter beyond ASCII at its end changes no word before it."""
    assert tokens(text) == tokens(f"{text} é")[:-1]


@given(st.frozensets(st.text(alphabet="ab1", min_size=1, max_size=9)), st.text(alphabet="ab1", min_size=1, max_size=9))
def test_abbreviations(words: frozenset[str], word: str) -> None:
    """The index finds what a comparison with each word finds."""
    assert Abbreviations(words).has_same(word) == any(same(word, other) for other in words)


def one_slip(word: str, meant: str) -> bool:
    """Check by all edits whether `word` may be a misspelt `meant`."""
    if word[0] != meant[0]:
        return False
    missing = {meant[:at] + meant[at + 1 :] for at in range(len(meant))}
    added = {word[:at] + word[at + 1 :] for at in range(len(word))}
    swapped = {word[:at] + word[at : at + 2][::-1] + word[at + 2 :] for at in range(len(word) - 1)}
    longer = len(meant) >= MIN_SWAPPED_LETTERS
    return word in missing or (longer and meant in added) or (longer and word != meant and meant in swapped)


@given(
    st.frozensets(st.text(alphabet="abc", min_size=MIN_LETTERS, max_size=8)),
    st.text(alphabet="abc", min_size=MIN_LETTERS, max_size=8),
)
def test_spelling(words: frozenset[str], word: str) -> None:
    """The index finds every word that is one slip away."""
    near = {meant for meant in Vocabulary(words).near(word) if meant != word}
    assert near == {meant for meant in words if meant != word and one_slip(word, meant)}


def test_long_words_are_not_corrected() -> None:
    """A word longer than any in use is no key of the index."""
    assert not list(Vocabulary({"a" * (MAX_LETTERS + 1)}).near("a" * MAX_LETTERS))
