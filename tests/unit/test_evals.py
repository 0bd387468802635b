from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import fields, replace
from pydantic_evals.evaluators import EvaluationReason, EvaluatorContext

from evals.__main__ import main
from evals.evaluators import EVALUATORS, Outcome
from evals.gate import decide
from evals.matching import fits
from evals.planner import Effort, Ledger, answer, open_planner
from evals.report import read_committed, render_failures, render_file, render_table, results_path, tallies
from evals.run import CaseResult
from evals.suite import PROFILES, EvalCase, Pattern, load_cases, load_profile
from evals.tables.__main__ import TABLES, profile_of
from service.agents.prompts import Request, build_request
from service.features.events import ModelCalled, OutputRetried
from service.features.model import ExtractionOptions, FeaturePlan, PlannedFeature, Profile
from service.features.operations import REGISTRY, AnyOperation, Count, Predicate, Rate, RollingStatistic
from service.settings import BUILTIN_MODEL, load_settings

CASES = load_cases()
BY_NAME = {case.name: case for case in CASES}
NO_EFFORT = Effort(0, 0, 0, 0, None)

# ------------------------------------------------------------------------------------------------------ the cases


def test_there_are_enough_cases() -> None:
    """At least sixty cases over at least eight profiles, two of them wide, and about a quarter held out."""
    profiles = {case.profile for case in CASES}

    assert len(CASES) >= 60
    assert len(profiles) >= 8
    assert sum(len(load_profile(name).columns) >= 150 for name in profiles) >= 2
    assert 0.2 <= sum(case.held_out for case in CASES) / len(CASES) <= 0.35


def test_cases_are_told_apart() -> None:
    """No two cases share a name, and none asks the same of the same profile."""
    assert len(BY_NAME) == len(CASES)
    assert len({(case.profile, case.sentence, repr(case.options)) for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_cases_are_well_formed(case: EvalCase) -> None:
    """Every column, value, kind and field that a case names exists, and every case states something."""
    profile = load_profile(case.profile)
    columns = {column.name for column in profile.columns}
    named = {*case.entity, *case.time, *case.avoids, *(name for group in case.reads for name in group)}
    named |= {name for each in case.filters for name in each}
    named |= {case.options.entity, case.options.time, case.options.target} - {None}

    assert named <= columns
    assert case.impossible or any((
        case.grain, case.entity, case.reads, case.avoids, case.wants, case.filters, case.windows, case.features
    ))  # fmt: skip
    for pattern in (pattern for group in case.wants for pattern in group):
        check_pattern(pattern, case)


def check_pattern(pattern: Pattern, case: EvalCase) -> None:
    """The pattern's kind is an operation of the case's grain, its fields are the operation's, its columns exist."""
    profile = load_profile(case.profile)
    spec = REGISTRY[pattern["kind"]]
    known = {field.name for field in fields(spec.type)}
    assert set(pattern) - {"kind"} <= known
    assert case.grain is None or spec.grain == case.grain
    for field, value in pattern.items():
        if field in spec.columns:
            assert all(profile.column(name) for name in (value if isinstance(value, list) else [value]))
        if isinstance(value, dict):
            for column, wanted in value.items():
                check_values(profile, column, wanted)


def check_values(profile: Any, column: str, wanted: Any) -> None:
    """A value that rows are selected by is one of the column's frequent values."""
    found = profile.column(column)
    assert found is not None
    if isinstance(wanted, dict):
        wanted = wanted.get("not", [])
    held = {entry.value for entry in found.top_values}
    for value in wanted if isinstance(wanted, list) else [wanted]:
        assert str(value).lower() in {each.lower() for each in held}


@pytest.mark.parametrize("name", ["orders", "legacy"])
async def test_profiles_are_what_the_service_makes(name: str, tmp_path: Path) -> None:
    """Planners see of a profile in the repository what ingest gives: else `python -m evals.tables` writes it anew."""
    made = await profile_of(name, tmp_path)

    assert seen(made) == seen(load_profile(name))


def seen(profile: Profile) -> Request:
    """What a model is told of a profile."""
    return build_request("useful features", profile, ExtractionOptions())


def test_every_table_has_its_profile() -> None:
    """No profile is without the table it came from, nor the other way round, and every one has cases."""
    assert {path.stem for path in PROFILES.glob("*.json")} == set(TABLES) == {case.profile for case in CASES}


# -------------------------------------------------------------------------------------------------- the evaluators

CLICKS = Count((Predicate("event_type", "eq", ("click",)),), 30.0)
PLAN = FeaturePlan("entity", (PlannedFeature("clicks", "Clicks of a user.", CLICKS),), "user_id", "event_time")
CASE = EvalCase(
    name="a-case", profile="clickstream", sentence="clicks of each user in the last 30 days", tags=("windows",),
    grain="entity", entity=("user_id",), time=("event_time",), reads=(("event_type",),), avoids=("price",),
    wants=(({"kind": "count", "where": {"event_type": "click"}, "last_days": 30},),),
    filters=({"event_type": "click"},), windows=(30.0,), features=(1, 2),
)  # fmt: skip
IMPOSSIBLE = replace(CASE, impossible=True)


def verdicts(case: EvalCase, outcome: Outcome) -> dict[str, bool]:
    """Every property that was looked at, and whether it held."""
    context = EvaluatorContext[EvalCase, Outcome, None](
        name=case.name, inputs=case, metadata=None, expected_output=None, output=outcome, duration=0.0,
        _span_tree=None, attributes={}, metrics={},  # type: ignore[arg-type]
    )  # fmt: skip
    found: dict[str, bool] = {}
    for evaluator in EVALUATORS:
        for name, verdict in evaluator.evaluate_sync(context).items():  # type: ignore[union-attr]
            assert isinstance(verdict, EvaluationReason)
            assert verdict.value or verdict.reason
            found[name] = bool(verdict.value)
    return found


def failed(case: EvalCase, outcome: Outcome) -> set[str]:
    """The properties that did not hold."""
    return {name for name, held in verdicts(case, outcome).items() if not held}


def planned(operation: AnyOperation, **changes: Any) -> Outcome:
    """The good plan with another operation."""
    return Outcome(replace(PLAN, features=(replace(PLAN.features[0], operation=operation),), **changes))


def test_a_good_plan_passes_every_property() -> None:
    """All properties are looked at, and hold."""
    found = verdicts(CASE, Outcome(PLAN))

    assert len(found) == len(EVALUATORS)
    assert all(found.values())


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome(error="request_impossible"), {"answered"}),
        (Outcome(error="model_timeout"), {"answered"}),
        (planned(CLICKS, grain="row"), {"grained", "valid"}),
        (planned(CLICKS, entity="session_id"), {"entity"}),
        (planned(CLICKS, time=None), {"time", "valid"}),
        (planned(Count(last_days=30)), {"reads", "wants", "filters"}),
        (planned(replace(CLICKS, last_days=7)), {"wants", "windows"}),
        (planned(replace(CLICKS, where=(Predicate("event_type", "eq", ("search",)),))), {"wants", "filters"}),
        (planned(replace(CLICKS, where=(*CLICKS.where, Predicate("price", "gt", (1,))))), {"avoids", "wants"}),
        (planned(replace(CLICKS, where=(Predicate("event_typ", "eq", ("click",)),))),
         {"valid", "reads", "wants", "filters"}),
    ],
)  # fmt: skip
def test_each_fault_fails_its_property(outcome: Outcome, expected: set[str]) -> None:
    """A plan that is wrong in one way fails what that concerns, and nothing else."""
    assert failed(CASE, outcome) == expected


def test_too_many_features() -> None:
    """A plan of more features than the client can use fails."""
    many = tuple(replace(PLAN.features[0], name=f"f{n}", operation=Count(last_days=float(n + 1))) for n in range(3))

    assert "features" in failed(CASE, Outcome(replace(PLAN, features=(*PLAN.features, *many))))


def test_what_is_impossible_must_be_refused() -> None:
    """A plan for what nothing can serve fails, an error of another kind too; a refusal passes."""
    assert failed(IMPOSSIBLE, Outcome(PLAN)) == {"answered"}
    assert failed(IMPOSSIBLE, Outcome(error="model_unavailable")) == {"answered"}
    assert verdicts(IMPOSSIBLE, Outcome(error="request_impossible")) == {"answered": True}


def test_the_target_is_always_avoided() -> None:
    """A case with a target fails a plan that reads it, although the case does not list it."""
    case = replace(CASE, avoids=(), options=ExtractionOptions(target="event_type"))

    assert "avoids" in failed(case, Outcome(PLAN))


@pytest.mark.parametrize(
    ("pattern", "operation", "expected"),
    [
        ({"kind": "count"}, CLICKS, True),
        ({"kind": "count", "last_days": 31}, CLICKS, True),
        ({"kind": "count", "last_days": None}, CLICKS, False),
        ({"kind": "count", "where": {}}, CLICKS, False),
        ({"kind": "count", "where": {"event_type": ["click"]}},
         replace(CLICKS, where=(Predicate("event_type", "in", ("click",)),)), True),
        ({"kind": "rate", "numerator": {"age": {"gt": 5}}}, Rate((Predicate("age", "gt", (5,)),)), True),
        ({"kind": "rate", "numerator": {"age": {"gt": 5}}}, Rate((Predicate("age", "ge", (5,)),)), False),
        ({"kind": "rate", "numerator": {"c": {"not": ["DE"]}}}, Rate((Predicate("c", "ne", ("DE",)),)), True),
        ({"kind": "rate", "numerator": {"c": {"is_null": True}}}, Rate((Predicate("c", "is_null"),)), True),
        ({"kind": "rolling_statistic", "function": ["mean", "sum"], "days": 7},
         RollingStatistic("x", "e", "t", 7, "sum"), True),
        ({"kind": "rolling_statistic", "days": 7}, RollingStatistic("x", "e", "t", 8, "sum"), False),
        ({"kind": "rate"}, CLICKS, False),
    ],
)  # fmt: skip
def test_patterns(pattern: Pattern, operation: AnyOperation, expected: bool) -> None:  # noqa: FBT001 - a table
    """A pattern holds for what it states, however predicates are written, and leaves the rest open."""
    assert fits(pattern, operation) is expected


# -------------------------------------------------------------------------------------------------- gate and report


def result(name: str, *failed: str, held_out: bool = False) -> CaseResult:
    """A case that failed these properties."""
    return CaseResult(name, ("windows",), held_out, dict.fromkeys(failed, "why"), 0.1)


GOOD = tuple(result(f"case-{number}") for number in range(20))
COMMITTED = {each.name: True for each in GOOD}


def test_the_gate_accepts_what_is_as_good() -> None:
    """Nothing is said of a run that equals the table."""
    assert decide(GOOD, COMMITTED) == decide(GOOD[:5], COMMITTED, partial=True)
    assert decide(GOOD, COMMITTED).faults == decide(GOOD, COMMITTED).news == ()


def test_the_gate_names_a_regression() -> None:
    """A case that passed before and fails now is a fault that names the case and its properties."""
    worse = (*GOOD[:-1], result("case-19", "windows", "wants"))

    assert decide(worse, COMMITTED).faults == ("case-19 passed before and fails now: windows, wants",)


def test_the_gate_welcomes_a_rise() -> None:
    """A case that failed before and passes now is no fault, and it is told."""
    decision = decide(GOOD, COMMITTED | {"case-3": False})

    assert decision.faults == ()
    assert decision.news == ("case-3 passes now",)


def test_the_gate_knows_a_floor() -> None:
    """Below nine cases in ten a run fails, although each case failed before as well."""
    poor = (*GOOD[:17], *(result(f"case-{number}", "wants") for number in range(17, 20)))
    committed = {each.name: each.passed for each in poor}

    assert decide(poor, committed).faults == ("85.0 % of the cases passed; at least 90 % must",)


def test_the_gate_misses_what_is_gone() -> None:
    """A case of the table that no longer exists is a fault; a new one is told."""
    decision = decide((*GOOD[1:], result("case-new")), COMMITTED)

    assert decision.faults == ("case-0 is in the table and no case any more",)
    assert decision.news == ("case-new is new",)


def test_the_committed_file_is_read_back() -> None:
    """Each case's result survives the file; the built-in planner's has no numbers that change from run to run."""
    found = (*GOOD, result("case-x", "wants", held_out=True))
    slower = tuple(replace(each, seconds=9.0) for each in found)
    text = render_file(BUILTIN_MODEL, found, NO_EFFORT)

    assert read_committed(text) == {**COMMITTED, "case-x": False}
    assert text == render_file(BUILTIN_MODEL, slower, replace(NO_EFFORT, calls=7))
    assert "9.00 s at most" in render_file("openai:gpt-5", slower, NO_EFFORT)


def test_tallies() -> None:
    """Cases are counted in all, held out, and by tag; what failed is told, but of held-out cases only the property."""
    found = (*GOOD[:3], result("case-x", "wants", held_out=True), result("case-y", "reads"))

    assert [(each.kind, each.cases, each.passed) for each in tallies(found)] == [
        ("all", 5, 3), ("held out", 1, 0), ("windows", 5, 3),
    ]  # fmt: skip
    assert "60.0" in render_table(found)
    assert render_failures(found) == "case-x: wants (held out)\ncase-y: reads\n    reads: why"


def test_file_names_are_safe() -> None:
    """A model's name, whatever it holds, makes a plain file name."""
    assert results_path("openai-chat:../../x y", Path("r")) == Path("r/openai_chat_x_y.md")
    assert results_path("../…", Path("r")) == Path("r/model.md")


def test_effort_is_counted() -> None:
    """Requests, tokens and cost add up; one call without a price leaves the cost unknown."""
    ledger = Ledger()
    ledger.record(ModelCalled("m", "success", 1.0, 10, 5, 0.5))
    ledger.record(OutputRetried("schema"))
    assert ledger.effort() == Effort(1, 1, 10, 5, 0.5)
    ledger.record(ModelCalled("m", "success", 1.0, 10, 5))
    assert ledger.effort() == Effort(2, 1, 20, 10, None)


async def test_errors_are_outcomes() -> None:
    """A refusal of the planner becomes the error's code, a plan comes with its usage."""
    async with open_planner(load_settings(primary_model=BUILTIN_MODEL), Ledger()) as planner:
        refused = await answer(planner, BY_NAME["orders-impossible-courier"])
        made = await answer(planner, BY_NAME["ads-ctr"])

    assert refused == Outcome(error="request_impossible")
    assert made.plan is not None
    assert made.usage is not None


# ------------------------------------------------------------------------------------------------------ the command


@pytest.mark.unmeasured
def test_the_builtin_planner_passes_its_gate(capsys: pytest.CaptureFixture[str]) -> None:
    """No case that the committed table counts as passed fails; if some are better, the table must be written again."""
    status = main(["--check", "--json"])
    said = json.loads(capsys.readouterr().out)

    assert said["faults"] == []
    assert said["news"] == [], "run `make eval` and commit evals/results"
    assert status == 0
    assert [each["cases"] for each in said["tallies"] if each["kind"] == "all"] == [len(CASES)]


@pytest.mark.unmeasured
def test_the_command_writes_then_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It writes a model's table, the same as the committed one, and then says of a rise to commit the table."""
    folder = ["--results", str(tmp_path), "--only", "text"]
    assert main(["--results", str(tmp_path)]) == 0
    table = results_path(BUILTIN_MODEL, tmp_path)
    before = table.read_text()

    assert main([*folder, "--check"]) == 0
    table.write_text(before.replace("| `logs-message-size` | pass |", "| `logs-message-size` | fail |"))
    capsys.readouterr()
    assert main([*folder, "--check"]) == 0
    assert (
        "logs-message-size passes now\nWrite the table again with `make eval` and commit it." in capsys.readouterr().out
    )
    assert before == (results_path(BUILTIN_MODEL)).read_text()


@pytest.mark.unmeasured
def test_a_regression_exits_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A case that the table counts as passed and that fails now ends the command with 1 and is named."""
    broken = [replace(case, impossible=True) if case.name == "ads-ctr" else case for case in CASES]
    monkeypatch.setattr("evals.__main__.load_cases", lambda: tuple(broken))

    assert main(["--check", "--only", "ratios"]) == 1
    assert "FAULT ads-ctr passed before and fails now: answered" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "nobody:nothing"], "nobody:nothing"),
        (["--model", "openai:gpt-5"], "openai:gpt-5"),
        (["--only", "nothing"], "no case has the tag"),
        (["--concurrency", "0"], "--concurrency"),
        (["--model", "openai:gpt-5", "--check"], "there is no table to compare with"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model that cannot be built, a tag without cases, a bad option: one line on stderr and exit status 2."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    status = main(arguments)
    said = capsys.readouterr()

    assert status == 2
    assert said.out == ""
    assert words in said.err
    assert len(said.err.splitlines()) == 1
