from __future__ import annotations

import asyncio
import math
import unicodedata
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from service.agents.prompts import prompt_version
from service.concurrency.deadline import deadline
from service.features.errors import (
    DeadlineExceeded,
    FeatureAgentError,
    ModelTimeout,
    ModelUnavailable,
    PlanningBusy,
    RequestImpossible,
)
from service.features.events import CacheLooked
from service.features.model import (
    ColumnProfile,
    Dataset,
    ExtractionOptions,
    FeaturePlan,
    FieldError,
    ModelUsage,
    PlannedFeature,
    Profile,
    ValueCount,
)
from service.features.operations import Value, operations_version
from service.features.ports import KeptPlan, PlanRequest, Proposal
from service.planning.plan_cache import WIDE_COLUMNS, CachedPlanner, KeptPlans
from service.planning.plan_key import MAX_FOLDED, normalise, plan_key
from tests.doubles import Recorder, Timer

MODELS = ("openai:first", "openai:second")
VERSIONS = ("operations-1", "prompt-1")
AGE = ColumnProfile("age", 0, "integer", "BIGINT", 0.0, 40)
MARKS = "\"`\u201c\u201d\u201e\u00ab\u00bb'\u2018\u2019"


def profile(*names: str, values: tuple[str, ...] = ()) -> Profile:
    """A profile with a column of each name, the first with those frequent values."""
    columns = [replace(AGE, name=name, position=place) for place, name in enumerate(names)]
    columns[0] = replace(columns[0], top_values=tuple(ValueCount(value, 1) for value in values))
    return Profile(100, tuple(columns), "f" * 64)


def ask(text: str = "The age of each person", owner: str = "ann", **changed: Any) -> PlanRequest:
    """A request of a dataset with the column `age`, or with another profile."""
    dataset = Dataset(
        changed.pop("dataset_id", "people"), owner, "text/csv", 10, "k", changed.pop("profile", profile("age")),
        datetime(2026, 3, 1, tzinfo=UTC),
    )  # fmt: skip
    return PlanRequest(dataset, text, changed.pop("options", ExtractionOptions()), **changed)


def plan(name: str = "age_value", column: str = "age") -> FeaturePlan:
    """A plan of one feature."""
    return FeaturePlan("row", (PlannedFeature(name, "The age.", Value(column)),))


def key_of(request: PlanRequest, models: tuple[str, ...] = MODELS, versions: tuple[str, ...] = VERSIONS) -> str:
    """The request's key."""
    return plan_key(request, models=models, versions=versions)


class CacheRecorder(Recorder):
    """An observer that also tells how the plan cache was found."""

    def looks(self, level: str = "memory") -> list[str]:
        """Return the results of looking into one level, in order."""
        return [event.result for event in self.of(CacheLooked) if event.level == level]


class Model:
    """Counts plannings, and ends each when the test says so; plan n is called `plan_n`."""

    def __init__(self, *, held: bool = False) -> None:
        self.calls = 0
        self.cancelled = 0
        self.error: Exception | None = None
        self.usage = ModelUsage(MODELS[0], 120, 30, 0.02)
        self.entered = asyncio.Event()
        self.go = asyncio.Event()
        if not held:
            self.go.set()

    async def propose(self, request: PlanRequest) -> Proposal:
        """Plan, once the test lets it."""
        self.calls += 1
        call = self.calls
        self.entered.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return Proposal(plan(f"plan_{call}"), self.usage)


class Shared:
    """The second level in a dictionary; counts, and can be held up."""

    def __init__(self) -> None:
        self.plans: dict[str, KeptPlan] = {}
        self.asked = 0
        self.puts = 0
        self.go = asyncio.Event()
        self.go.set()

    async def get(self, key: str) -> KeptPlan | None:
        """The plan under the key."""
        self.asked += 1
        await self.go.wait()
        return self.plans.get(key)

    async def put(self, key: str, proposal: Proposal) -> None:
        """Keep the plan for a minute."""
        self.puts += 1
        self.plans[key] = KeptPlan(proposal, 60.0)


def cache(model: Model, **changed: Any) -> CachedPlanner:
    """A cache of two plans for a minute."""
    made: dict[str, Any] = {
        "shared": None, "seconds": 60.0, "entries": 2, "models": MODELS, "versions": VERSIONS, "timer": Timer(),
    }  # fmt: skip
    observer = changed.pop("observer", None) or CacheRecorder()
    return CachedPlanner(model, KeptPlans(**(made | changed)), observer)


async def settle() -> None:
    """Let every task run until it waits for something that only the test gives."""
    for _ in range(10):
        await asyncio.sleep(0)


def name_of(proposal: Proposal) -> str:
    """The only feature's name."""
    return proposal.plan.features[0].name


# ------------------------------------------------------------------------------------------------------- equal requests


@given(st.lists(st.from_regex(r"[a-z0-9_]{1,8}", fullmatch=True), min_size=1, max_size=6), st.data())
def test_case_space_width_and_a_closing_mark_make_no_difference(words: list[str], data: st.DataObject) -> None:
    """A sentence in other case, spacing, width of letters or with another end is the same sentence."""
    spaces = st.sampled_from([" ", "  ", "\n", "\t ", "\u00a0", "\u3000"])
    wide = {code: code + 0xFEE0 for code in range(0x30, 0x7B)}

    def varied(word: str) -> str:
        form = data.draw(st.sampled_from([str, str.upper, str.title, lambda text: text.translate(wide)]))
        return form(word)

    sentence = "".join(varied(word) + data.draw(spaces) for word in words)
    end = data.draw(st.sampled_from(["", ".", "!", " ...", "?", "\u2026", "\u3002"]))
    assert key_of(ask(data.draw(st.sampled_from(["", " ", "\n"])) + sentence + end)) == key_of(ask(" ".join(words)))


@given(st.text(max_size=40))
def test_normalising_twice_is_normalising_once(text: str) -> None:
    """What is normalised stays as it is."""
    once = normalise(text)
    assert normalise(once) == once


@given(st.sampled_from(MARKS[:-1]), st.from_regex(r"[A-Za-z]{1,6}", fullmatch=True), st.data())
def test_quoted_parts_stay_to_the_letter(mark: str, word: str, data: st.DataObject) -> None:
    """The case and spacing of what is quoted matters, whatever the marks."""
    closing = {"\u201c": "\u201d", "\u201e": "\u201c", "\u00ab": "\u00bb", "\u2018": "\u2019"}.get(mark, mark)
    other = data.draw(st.sampled_from([word.swapcase(), f"{word} ", f"{word}.", f" {word}"]))
    texts = [f"Share of rows with {mark}{said}{closing} in it" for said in (word, other)]
    assert key_of(ask(texts[0])) != key_of(ask(texts[1]))
    assert key_of(ask(texts[0])) == key_of(ask(texts[0].replace("Share", "share")))


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("  The customer's Age,\nand the users' City. ", "the customer's age, and the users' city"),
        ("Count of 'It's Me' per Day", "count of 'It's Me' per day"),
        ('Rows that say "Not  Closed. ', 'rows that say "Not  Closed. '.strip()),
        ("State is \u201cNY\u201d.", "state is \u201cNY\u201d"),
        ("Over 10\u00b2 EUR", "over 10\u00b2 eur"),
        ("1\u00bd Hours", "1\u00bd hours"),
        ("Cafe\u0301 Sales", "caf\u00e9 sales"),
        ("'90s Music and 'Rock'", "'90s music and 'Rock'"),
        ("Share over 5%.", "share over 5%"),
        ("amount > -5", "amount > -5"),
        ("...", ""),
    ],
)
def test_what_is_kept_and_what_is_not(text: str, normal: str) -> None:
    """Apostrophes quote nothing, an open quotation ends with the sentence, a square is no digit, a sign stays."""
    assert normalise(text) == normal


@pytest.mark.parametrize("part", ["\ufdfa", "ß", "\u0344", "a\u0300\u0316", "\u2018É\u2019 "])
def test_sentences_that_are_dear_to_normalise_stay_as_they_are(part: str) -> None:
    """Above the bound a sentence beyond ASCII is its own normal form; others grow no further than theirs."""
    long = part * (9990 // len(part))
    assert normalise(long) is long
    short = (part * MAX_FOLDED)[:MAX_FOLDED]
    assert normalise(short) != short
    assert len(normalise(short)) <= 18 * MAX_FOLDED
    assert normalise("Mean Of X. " * 900) == " ".join(["mean of x."] * 900)[:-1]


def test_no_character_turns_into_a_quotation_mark() -> None:
    """Whatever NFKC would make a quotation mark of quotes by itself, so quoted and unquoted never fall together."""
    for code in range(0x110000):
        character = chr(code)
        if not 0xD800 <= code < 0xE000 and character not in MARKS:
            made = set(unicodedata.normalize("NFKC", character)) & set(MARKS)
            assert not made or normalise(f"x {character}B{character} y") != normalise(f"x {made.pop()}b{character} y")
            assert not made or "B" in normalise(f"x {character}B{character} y")


@pytest.mark.parametrize(
    "dataset",
    [profile("Amount", "amount"), profile("kind", values=("US", "us")), profile("email", values=("Email",))],
    ids=["columns", "values", "column and value"],
)
def test_what_the_dataset_distinguishes_is_distinguished(dataset: Profile) -> None:
    """Where names or values differ by case alone, so do sentences."""
    assert key_of(ask("Mean of US amount", profile=dataset)) != key_of(ask("Mean of us Amount", profile=dataset))
    plain = profile("age", values=("US", "DE"))
    assert key_of(ask("Mean of US amount", profile=plain)) == key_of(ask("Mean of us Amount", profile=plain))


def test_equal_data_under_another_name_shares_plans() -> None:
    """Which of a principal's datasets is asked of does not matter when their columns are equal."""
    assert key_of(ask(dataset_id="a")) == key_of(ask(dataset_id="b"))


OTHERS: dict[str, PlanRequest] = {
    "owner": ask(owner="bob"),
    "fingerprint": ask(profile=replace(profile("age"), fingerprint="e" * 64)),
    "type": ask(profile=Profile(100, (replace(AGE, logical_type="categorical"),), "f" * 64)),
    "personal": ask(profile=Profile(100, (replace(AGE, personal=True),), "f" * 64)),
    "sentence": ask("The age of each dog"),
    "max_features": ask(options=ExtractionOptions(max_features=19)),
    "entity": ask(options=ExtractionOptions(entity="age")),
    "time": ask(options=ExtractionOptions(time="age")),
    "target": ask(options=ExtractionOptions(target="age")),
}


def test_any_difference_makes_another_key() -> None:
    """Each single part of a request, the models, their order, and each version lead to a key of their own."""
    keys = {name: key_of(request) for name, request in OTHERS.items()} | {"": key_of(ask())}
    keys |= {f"models {models}": key_of(ask(), models=models) for models in (MODELS[::-1], MODELS[:1], ("x",))}
    keys |= {f"versions {made}": key_of(ask(), versions=made) for made in (("operations-1", "p"), ("o", "prompt-1"))}
    assert len(set(keys.values())) == len(keys)
    assert set(ExtractionOptions.__struct_fields__) <= set(OTHERS)


PARTS = st.tuples(*[st.text(max_size=6)] * 3, st.lists(st.text(max_size=4), max_size=3))


@given(PARTS, PARTS)
def test_parts_never_run_into_each_other(one: Any, other: Any) -> None:
    """However the parts are spelled, half a surrogate pair or a quotation mark too, different ones differ together."""

    def made(parts: Any) -> tuple[str, tuple[object, ...]]:
        owner, fingerprint, target, models = parts
        options, data = ExtractionOptions(target=target), replace(profile("age"), fingerprint=fingerprint)
        return key_of(ask(owner=owner, options=options, profile=data), models=tuple(models)), parts

    assert (made(one)[0] == made(other)[0]) == (one == other)


def test_half_a_surrogate_pair_has_a_key() -> None:
    """Text that is no Unicode has a key, and two halves are not the whole."""
    assert len({key_of(ask(text)) for text in ("\ud83d", "\ud83d\ude00", "\U0001f600")}) == 3


def test_versions_are_short_and_follow_the_content(monkeypatch: pytest.MonkeyPatch) -> None:
    """The versions of operations and prompt are hashes of what they say: another word, another version."""
    from service.agents import prompts

    assert len({operations_version(), prompt_version()}) == 2
    assert all(len(version) == 16 for version in (operations_version(), prompt_version()))
    monkeypatch.setattr(prompts, "INSTRUCTIONS", prompts.INSTRUCTIONS + ".")
    assert prompts.prompt_version.__wrapped__() != prompt_version()


def test_the_version_of_operations_follows_a_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operation that is described otherwise makes another version."""
    from service.features.operations import registry

    changed = replace(registry.REGISTRY["value"], summary="Something else.")
    monkeypatch.setitem(registry.REGISTRY, "value", changed)
    assert registry.operations_version.__wrapped__() != operations_version()


# ------------------------------------------------------------------------------------------------------ the first level


async def test_an_equal_request_costs_nothing() -> None:
    """The second of two equal requests gets the first one's plan without a model, and says that it was cached."""
    model, watcher = Model(), CacheRecorder()
    planner = cache(model, observer=watcher)
    first, second = await planner.propose(ask()), await planner.propose(ask("the  age of each PERSON."))
    assert first.usage == model.usage
    assert second == Proposal(first.plan, ModelUsage(MODELS[0], 0, 0, 0.0, fallback=False, cached=True))
    assert (model.calls, watcher.looks(), watcher.looks("redis")) == (1, ["miss", "hit"], [])


async def test_another_principal_s_plan_is_never_served() -> None:
    """Equal requests of two principals are planned for each."""
    model = Model()
    planner = cache(model)
    assert [name_of(await planner.propose(ask(owner=owner))) for owner in ("ann", "bob")] == ["plan_1", "plan_2"]


async def test_a_plan_is_served_until_its_time_is_over() -> None:
    """A plan is served for its seconds and no longer, however often it is asked for."""
    model, timer = Model(), Timer()
    planner = cache(model, timer=timer)
    for seconds, expected in ((0, "plan_1"), (30, "plan_1"), (29.9, "plan_1"), (0.2, "plan_2"), (59, "plan_2")):
        timer.seconds += seconds
        assert name_of(await planner.propose(ask())) == expected


def test_the_plan_used_longest_ago_makes_room() -> None:
    """With as many plans as may be, a new one displaces the one that was used longest ago."""
    plans = KeptPlans(shared=None, seconds=60.0, entries=2, models=MODELS, versions=VERSIONS, timer=Timer())
    for name in ("a", "b"):
        plans.remember(name, KeptPlan(Proposal(plan(name), ModelUsage("m")), 60.0))
    assert plans.remembered("a") is not None
    plans.remember("c", KeptPlan(Proposal(plan("c"), ModelUsage("m")), 60.0))
    assert [plans.remembered(name) is not None for name in ("a", "b", "c")] == [True, False, True]


def test_a_plan_of_no_more_time_replaces_an_earlier_one_and_is_not_kept() -> None:
    """What is put for no time at all, or for no number, is not served; nor is what was there before."""
    plans = KeptPlans(shared=None, seconds=60.0, entries=2, models=MODELS, versions=VERSIONS, timer=Timer())
    for seconds in (0.0, -1.0, math.nan):
        plans.remember("a", KeptPlan(Proposal(plan("a"), ModelUsage("m")), 60.0))
        plans.remember("a", KeptPlan(Proposal(plan("b"), ModelUsage("m")), seconds))
        assert plans.remembered("a") is None


def test_a_cache_without_room_is_refused() -> None:
    """A cache of no entries is a mistake of the settings, said when it is opened."""
    with pytest.raises(ValueError, match="at least one entry"):
        cache(Model(), entries=0)


async def test_a_wide_dataset_s_requests_are_equal_too() -> None:
    """A key that a thread makes is the same key."""
    model = Model()
    wide = profile("age", *(f"column_{number}" for number in range(WIDE_COLUMNS)))
    planner = cache(model)
    assert [name_of(await planner.propose(ask(profile=wide))) for _ in range(2)] == ["plan_1"] * 2


async def test_a_fallback_s_plan_is_not_kept() -> None:
    """A plan that a fallback model made is answered, not kept at either level, and the next request plans again."""
    model, shared = Model(), Shared()
    model.usage = ModelUsage(MODELS[1], 10, 10, 0.1, fallback=True)
    planner = cache(model, shared=shared)
    answers = [await planner.propose(ask(fresh=fresh)) for fresh in (False, True, False)]
    assert [name_of(answer) for answer in answers] == ["plan_1", "plan_2", "plan_3"]
    assert shared.plans == {}


async def test_an_error_is_not_kept() -> None:
    """A failed planning leaves nothing behind: the next equal request plans again."""
    model = Model()
    planner = cache(model)
    model.error = ModelUnavailable("away")
    with pytest.raises(ModelUnavailable):
        await planner.propose(ask())
    model.error = None
    assert name_of(await planner.propose(ask())) == "plan_2"


# -------------------------------------------------------------------------------------------------------- single flight


async def test_two_hundred_equal_requests_plan_once() -> None:
    """Of 200 equal requests at once, one plans and pays; the others share its plan and pay nothing."""
    model, watcher = Model(held=True), CacheRecorder()
    planner = cache(model, observer=watcher)
    asking = [asyncio.create_task(planner.propose(ask())) for _ in range(200)]
    await settle()
    model.go.set()
    answers = await asyncio.gather(*asking)
    assert model.calls == 1
    assert {name_of(answer) for answer in answers} == {"plan_1"}
    assert [answer.usage.cached for answer in answers] == [False] + [True] * 199
    assert {answer.usage.input_tokens for answer in answers[1:]} == {0}
    assert watcher.looks() == ["miss"] + ["joined"] * 199


async def test_requests_that_differ_do_not_wait_for_each_other() -> None:
    """Different requests are planned at the same time."""
    model = Model(held=True)
    planner = cache(model)
    asking = [asyncio.create_task(planner.propose(ask(owner=owner))) for owner in "abc"]
    await settle()
    assert model.calls == 3
    model.go.set()
    await asyncio.gather(*asking)


async def test_who_joins_a_fallback_s_plan_gets_it_as_one() -> None:
    """A plan of a fallback model that is shared while it is made says that it is one."""
    model = Model(held=True)
    model.usage = ModelUsage(MODELS[1], 10, 10, None, fallback=True)
    planner = cache(model)
    asking = [asyncio.create_task(planner.propose(ask())) for _ in range(2)]
    await settle()
    model.go.set()
    _, joined = await asyncio.gather(*asking)
    assert joined.usage == ModelUsage(MODELS[1], 0, 0, 0.0, fallback=True, cached=True)


async def test_a_cancelled_leader_is_followed_by_one() -> None:
    """When the request that plans is cancelled, one of those that wait plans instead, and all of them get its plan."""
    model = Model(held=True)
    planner = cache(model)
    asking = [asyncio.create_task(planner.propose(ask())) for _ in range(20)]
    await settle()
    for leader in asking[:3]:
        leader.cancel()
        await settle()
    assert (model.calls, model.cancelled) == (4, 3)
    model.go.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(answer) for answer in answers[:3]] == [asyncio.CancelledError] * 3
    assert {name_of(answer) for answer in answers[3:] if isinstance(answer, Proposal)} == {"plan_4"}
    assert len([answer for answer in answers if isinstance(answer, Proposal) and not answer.usage.cached]) == 1


async def test_a_cancelled_joiner_disturbs_nobody() -> None:
    """A request that waits and is cancelled, or whose deadline is over, leaves the planning as it is."""
    model = Model(held=True)
    planner = cache(model)
    leader = asyncio.create_task(planner.propose(ask()))
    await settle()
    joiner = asyncio.create_task(planner.propose(ask()))
    await settle()
    joiner.cancel()
    with pytest.raises(asyncio.CancelledError):
        await joiner
    with deadline(0.01), pytest.raises(DeadlineExceeded, match="within the time"):
        await planner.propose(ask())
    model.go.set()
    assert name_of(await leader) == "plan_1"
    assert (model.calls, model.cancelled) == (1, 0)


async def test_all_who_wait_get_the_error_that_ended_the_planning() -> None:
    """One failed planning fails all who joined it, each with its own error that says the same; none repeats it."""
    model = Model(held=True)
    planner = cache(model)
    model.error = RequestImpossible("no such column", errors=[FieldError("description", "?")], retry_after=3.0)
    asking = [asyncio.create_task(planner.propose(ask())) for _ in range(50)]
    await settle()
    model.go.set()
    errors = await asyncio.gather(*asking, return_exceptions=True)
    assert model.calls == 1
    assert {type(error) for error in errors} == {RequestImpossible}
    assert len({id(error) for error in errors}) == 50
    raised = {(error.message, error.errors, error.retry_after, str(error)) for error in errors}  # type: ignore[union-attr]
    assert raised == {("no such column", (FieldError("description", "?"),), 3.0, "no such column")}


async def test_what_is_done_to_one_s_error_is_not_done_to_another_s() -> None:
    """Whoever catches the error of the request that planned may change it; those who wait get it as it was raised."""
    model = Model(held=True)
    planner = cache(model)
    model.error = ModelUnavailable("away", retry_after=3.0)

    async def lead() -> None:
        try:
            await planner.propose(ask())
        except ModelUnavailable as error:
            error.retry_after = 99.0

    leading = asyncio.create_task(lead())
    await settle()
    joining = asyncio.create_task(planner.propose(ask()))
    await settle()
    model.go.set()
    await leading
    with pytest.raises(ModelUnavailable) as raised:
        await joining
    assert raised.value.retry_after == 3.0


async def test_a_mistake_in_planning_fails_those_who_wait_once() -> None:
    """An unexpected error is raised where it happened; those who wait get an error, and nobody repeats it."""
    model = Model(held=True)
    planner = cache(model)
    model.error = KeyError("mistake")
    asking = [asyncio.create_task(planner.propose(ask())) for _ in range(3)]
    await settle()
    model.go.set()
    errors = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(error) for error in errors] == [KeyError, FeatureAgentError, FeatureAgentError]
    assert "mistake" not in str(errors[1])
    assert model.calls == 1


@pytest.mark.parametrize("error", [ModelTimeout("slow"), DeadlineExceeded("over"), PlanningBusy("full")])
async def test_a_hurried_leader_s_end_is_not_the_end_of_the_patient(error: FeatureAgentError) -> None:
    """When it ends for want of time, who has more of it plans again, once for all; who has less gets the error."""
    model = Model(held=True)
    planner = cache(model)

    async def within(seconds: float) -> Proposal:
        with deadline(seconds):
            return await planner.propose(ask())

    hurried = asyncio.create_task(within(5_000))
    await settle()
    patient = [asyncio.create_task(within(9_000)) for _ in range(3)]
    equal = asyncio.create_task(within(4_000))
    await settle()
    model.error = error
    model.go.set()
    with pytest.raises(type(error)):
        await hurried
    model.error = None
    assert {name_of(answer) for answer in await asyncio.gather(*patient)} == {"plan_2"}
    with pytest.raises(type(error)):
        await equal
    assert model.calls == 2


async def test_without_deadlines_a_timeout_is_shared() -> None:
    """Where nobody has more time than another, want of time ends all."""
    model = Model(held=True)
    planner = cache(model)
    asking = [asyncio.create_task(planner.propose(ask())) for _ in range(5)]
    await settle()
    model.error = ModelTimeout("slow")
    model.go.set()
    assert {type(error) for error in await asyncio.gather(*asking, return_exceptions=True)} == {ModelTimeout}
    assert model.calls == 1


# ---------------------------------------------------------------------------------------------------------------- fresh


async def test_a_fresh_request_reads_nothing_and_is_kept() -> None:
    """A fresh request is planned anew at both levels' cost, and its plan replaces the kept one at both."""
    model, watcher, shared = Model(), CacheRecorder(), Shared()
    planner = cache(model, observer=watcher, shared=shared)
    await planner.propose(ask())
    fresh, after = await planner.propose(ask(fresh=True)), await planner.propose(ask())
    assert (name_of(fresh), fresh.usage.cached, name_of(after)) == ("plan_2", False, "plan_2")
    assert [name_of(kept.proposal) for kept in shared.plans.values()] == ["plan_2"]
    assert (watcher.looks(), watcher.looks("redis"), shared.asked) == (["miss", "bypassed", "hit"], ["miss"], 1)


async def test_a_fresh_request_does_not_wait_for_an_earlier_one_nor_is_undone_by_it() -> None:
    """A fresh request plans beside an equal one under way, and its plan stays when the earlier one ends later."""
    model, shared = Model(held=True), Shared()
    planner = cache(model, shared=shared)
    earlier = [asyncio.create_task(planner.propose(ask())) for _ in range(2)]
    await settle()
    later = Model()
    later.calls = 10
    planner._planner = later
    assert name_of(await planner.propose(ask(fresh=True))) == "plan_11"
    model.go.set()
    assert {name_of(answer) for answer in await asyncio.gather(*earlier)} == {"plan_1"}
    assert name_of(await planner.propose(ask())) == "plan_11"
    assert [name_of(kept.proposal) for kept in shared.plans.values()] == ["plan_11"]


async def test_fresh_requests_plan_each_for_itself() -> None:
    """Two fresh requests at once are two plannings."""
    model = Model(held=True)
    planner = cache(model)
    asking = [asyncio.create_task(planner.propose(ask(fresh=True))) for _ in range(2)]
    await settle()
    assert model.calls == 2
    model.go.set()
    await asyncio.gather(*asking)


# ----------------------------------------------------------------------------------------------------- the second level


async def test_what_one_process_planned_another_serves() -> None:
    """A plan that a second cache finds in the shared level costs it nothing, and is then in its own memory."""
    models, watcher, shared = (Model(), Model()), CacheRecorder(), Shared()
    await cache(models[0], shared=shared).propose(ask())
    other = cache(models[1], shared=shared, observer=watcher)
    answers = [await other.propose(ask()) for _ in range(2)]
    assert {name_of(answer) for answer in answers} == {"plan_1"}
    assert answers[0].usage == ModelUsage(MODELS[0], cached=True)
    assert (models[1].calls, watcher.looks(), watcher.looks("redis")) == (0, ["miss", "hit"], ["hit"])
    assert shared.puts == 1, "what is read is not written again, or it would never expire"


async def test_a_shared_plan_grows_no_older_in_memory() -> None:
    """A plan from the shared level is served for as long as it has left there."""
    model, timer, shared = Model(), Timer(), Shared()
    planner = cache(model, timer=timer, shared=shared)
    shared.plans[key_of(ask())] = KeptPlan(Proposal(plan("old"), ModelUsage(MODELS[0], cached=True)), 10.0)
    assert name_of(await planner.propose(ask())) == "old"
    shared.plans.clear()
    timer.seconds += 9.9
    assert name_of(await planner.propose(ask())) == "old"
    timer.seconds += 0.2
    assert name_of(await planner.propose(ask())) == "plan_1"


@pytest.mark.parametrize(
    "kept",
    [
        Proposal(plan(column="salary"), ModelUsage(MODELS[0], cached=True)),
        Proposal(plan(), ModelUsage("openai:stranger", cached=True)),
        Proposal(plan(), ModelUsage(MODELS[0], 10, cached=True)),
        Proposal(plan(), ModelUsage(MODELS[0], cached=True, fallback=True)),
    ],
    ids=["unknown column", "other model", "tokens", "fallback"],
)
async def test_a_shared_plan_that_may_not_run_is_a_miss(kept: Proposal) -> None:
    """A plan from outside is judged like a model's: with a fault, or a usage never written, it is not served."""
    model, watcher, shared = Model(), CacheRecorder(), Shared()
    shared.plans[key_of(ask())] = KeptPlan(kept, 60.0)
    planner = cache(model, shared=shared, observer=watcher)
    assert name_of(await planner.propose(ask())) == "plan_1"
    assert (model.calls, watcher.looks("redis")) == (1, ["miss"])
    assert name_of(shared.plans[key_of(ask())].proposal) == "plan_1"


async def test_a_shared_plan_that_reads_the_target_is_a_miss() -> None:
    """What the options forbid is forbidden to shared plans, too."""
    model, shared = Model(), Shared()
    hidden = ask(options=ExtractionOptions(target="age"))
    shared.plans[key_of(hidden)] = KeptPlan(Proposal(plan("leak"), ModelUsage(MODELS[0], cached=True)), 60.0)
    assert name_of(await cache(model, shared=shared).propose(hidden)) == "plan_1"


async def test_the_shared_level_is_asked_once_for_equal_requests() -> None:
    """Requests that arrive while the shared level is being asked wait for its answer."""
    model, shared, watcher = Model(), Shared(), CacheRecorder()
    shared.go.clear()
    planner = cache(model, shared=shared, observer=watcher)
    asking = [asyncio.create_task(planner.propose(ask())) for _ in range(50)]
    await settle()
    shared.go.set()
    await asyncio.gather(*asking)
    assert (shared.asked, model.calls, watcher.looks("redis")) == (1, 1, ["miss"])
