"""Every gate lets a run through that meets its bound exactly, and stops one that does not, with its own sentence."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from msgspec.structs import replace

from loadtest import regression
from loadtest.errors import BadInput
from loadtest.gate import MIN_POINTS, judge, outcome_of
from loadtest.measure.indicators import Sli, Slo
from loadtest.regression import Baseline, Known, cost_of, load_baseline, write_baseline
from loadtest.results import (
    Extractions,
    Indicator,
    Machine,
    Requests,
    Run,
    Service,
    ServicePoint,
    Stage,
    read_record,
    write_record,
)
from loadtest.verdict import EXIT_STATUS, Check, Outcome, Verdict

SLO = Slo("fast", 99.0, "A request answered in time.", Sli(total="a", bad="b"))
ROUTE = Requests("GET", "/x", "200", 200, {"5": 200})
STAGE = Stage("smoke", 10, 30, 10, 200, 200, 200, 10.0, 0, 1, 2, [ROUTE])
WARM_UP = replace(STAGE, name="warm-up", began=0, ended=10, requests=[], failed=200, completed=0, achieved_rate=0)
SERVICE = Service(
    points=[ServicePoint(number, 1, number, 100, 0, 0, 0, 0) for number in range(MIN_POINTS)],
    requests={"GET /x": 200},
    indicators=[Indicator("fast", "", "service", 200, 200), Indicator("fast", "", "client", 200, 200)],
    restarts=0,
    memory_limit_mib=200,
    cpu_seconds=2,
    cache_hits=0.25,
    throttled_share=0.0,
    cpu_limit_cores=1.0,
)
MACHINE = Machine(2, "Linux", "3.11", 5.0, 5.0, 0.1, ["other 0.1 cores"], 0.2, 0.0625, 1.1)
RUN = Run(
    1, "id", "http://a", "1", "smoke", "default.yaml", "abc", 0, 30, 1, [WARM_UP, STAGE],
    Extractions(20, 20, 0, [], []), SERVICE, MACHINE, {},
)  # fmt: skip


@pytest.fixture(autouse=True)
def _short_runs_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs of these tests last 20 s."""
    monkeypatch.setattr(regression, "MIN_SECONDS", 1.0)


def run(**changes: Any) -> Run:
    """A sound run with other values; dotted names are written with two underscores."""
    found = RUN
    for path, value in changes.items():
        parent, _, name = path.rpartition("__")
        if parent == "stage":
            found = replace(found, stages=[WARM_UP, replace(found.stages[1], **{name: value})])
        elif parent:
            found = replace(found, **{parent: replace(getattr(found, parent), **{name: value})})
        else:
            found = replace(found, **{name: value})
    return found


def memory(*held: float) -> list[ServicePoint]:
    """Looks at the memory."""
    return [ServicePoint(number, 1, 0, mib, 0, 0, 0, 0) for number, mib in enumerate(held)]


def seen(good: float, total: float, client: tuple[float, float] = (200, 200)) -> list[Indicator]:
    """Events on both sides."""
    return [Indicator("fast", "", "service", good, total), Indicator("fast", "", "client", *client)]


def checks(found: Verdict, gate: str) -> list[Check]:
    """The checks of a gate."""
    return [check for check in found.checks if check.gate == gate]


def test_a_sound_run_passes() -> None:
    """A run without fault passes every gate, and a warm-up that failed altogether is not judged."""
    found = judge([RUN], [SLO], None)
    assert (found.verdict, found.reasons) == ("pass", [])
    assert {check.outcome for check in found.checks} == {"pass"}
    assert {check.gate for check in found.checks} == {
        *("lost", "doubled", "restarts", "machine", "generator", "slo:fast", "achieved_rate", "clients", "agreement"),
        *("cpu_limit", "memory_limit", "memory_growth", "samples"),
    }


GROWN = [100.0] * 9 + [132.0] * 3
CASES: list[tuple[str, dict[str, Any], dict[str, Any], Outcome, str]] = [
    ("lost", {}, {"extractions__lost": ["k: extraction x is not there"]}, "fail", "extraction x is not there"),
    ("doubled", {}, {"extractions__doubled": ["k: answered with two"]}, "fail", "k: answered with two"),
    ("restarts", {"service__restarts": 0}, {"service__restarts": 1}, "fail", "1 processes of the service ended"),
    ("machine", {"machine__pressure_before": 30.0}, {"machine__pressure_before": 30.01}, "not_measured", "waited for"),
    ("machine", {"machine__foreign_cores": 0.3}, {"machine__foreign_cores": 0.301}, "not_measured", "end them and"),
    ("generator", {"machine__generator_cores": 0.9}, {"machine__generator_cores": 0.91}, "not_measured", "generators"),
    ("generator", {"stage__lag_p99_ms": 100.0}, {"stage__lag_p99_ms": 101.0}, "not_measured", "at most 101 ms late"),
    ("slo:fast", {"service__indicators": seen(198, 200)}, {"service__indicators": seen(197, 200)}, "fail",
     "3 of 200 events were bad by the service's metrics, 98.50 % good of 99 %. Good is: A request answered in time."),
    ("slo:fast", {"service__indicators": seen(200, 200, (198, 200))},
     {"service__indicators": seen(200, 200, (197, 200))}, "fail", "as its clients saw it"),
    ("slo:fast", {"service__indicators": seen(98, 99)}, {"service__indicators": seen(97, 99)}, "fail", "2 of 99"),
    ("achieved_rate", {"stage__achieved_rate": 9.5}, {"stage__achieved_rate": 9.45}, "fail", "did not keep up"),
    ("clients", {"stage__failed": 1, "stage__completed": 199}, {"stage__failed": 2, "stage__completed": 198}, "fail",
     "2 of 200 clients did not get what they came for"),
    ("clients", {}, {"stage__failed": 0, "stage__completed": 0}, "fail", "no client came at all"),
    ("agreement", {"service__requests": {"GET /x": 198}}, {"service__requests": {"GET /x": 197}}, "fail",
     "GET /x: the clients count 200 and the service 197: its metrics cannot be trusted"),
    ("agreement", {"service__requests": {"GET /x": 202}}, {"service__requests": {"GET /x": 203}}, "fail", "others use"),
    ("agreement", {"service__requests": {"GET /x": 200, "GET /y": 2}}, {"service__requests": {}}, "fail", "service 0"),
    ("cpu_limit", {"service__throttled_share": 0.25}, {"service__throttled_share": 0.26}, "fail",
     "the CPU limit of 1.00 cores stopped the service in 26 % of the scheduler's periods: the limit is too small"),
    ("memory_limit", {"service__points": memory(*[180] * 12)}, {"service__points": memory(*[181] * 12)}, "fail",
     "a process held up to 181 of the 200 MiB that it may: the limit is too small"),
    ("memory_growth", {"service__points": memory(*GROWN)}, {"service__points": memory(*GROWN[:9], *[132.2] * 3)},
     "fail", "it may leak"),
    ("samples", {"service__indicators": seen(50, 50, (0, 0))}, {"service__indicators": seen(49, 49, (0, 0))},
     "not_measured", "fast: 49 events were seen; fewer than 50 would decide nothing; run a longer shape"),
]  # fmt: skip


@pytest.mark.parametrize(("gate", "well", "ill", "outcome", "sentence"), CASES)
def test_a_gate_at_its_bound(
    gate: str, well: dict[str, Any], ill: dict[str, Any], outcome: Outcome, sentence: str
) -> None:
    """At its bound exactly a run passes; a little beyond it is stopped by that gate alone, for the right reason."""
    assert judge([run(**well)], [SLO], None).reasons == []
    found = judge([run(**ill)], [SLO], None)
    assert found.verdict == outcome
    assert {reason.gate for reason in found.reasons} == {gate}
    assert sentence in found.reasons[0].sentence
    assert found.reasons[0].sentence.startswith(("smoke: ", "fast: "))
    assert (found.reasons[0].measured, found.reasons[0].allowed) != (None, None)


def test_each_stage_is_judged() -> None:
    """A stage with events enough is judged on its own: a bad one among good ones is a reason; a tiny one is none."""
    short = [*SERVICE.indicators, Indicator("fast", "smoke", "client", 90, 99)]
    assert judge([run(service__indicators=short)], [SLO], None).reasons == []
    long = [*SERVICE.indicators, Indicator("fast", "smoke", "client", 98, 100)]
    [reason] = judge([run(service__indicators=long)], [SLO], None).reasons
    assert "as its clients saw it in smoke" in reason.sentence
    warm_up = [*SERVICE.indicators, Indicator("fast", "warm-up", "client", 0, 100)]
    assert judge([run(service__indicators=warm_up)], [SLO], None).reasons == []


def test_what_is_not_known_does_not_decide() -> None:
    """No pressure file, no control group, no memory limit and few looks at the memory are no reason."""
    unknown = run(
        machine__pressure_before=None,
        service__throttled_share=None,
        service__cpu_limit_cores=None,
        service__memory_limit_mib=0,
        service__points=memory(*[100] * 5, *[900] * 6),
    )
    found = judge([unknown], [SLO], None)
    assert found.verdict == "pass"
    assert checks(found, "cpu_limit") == checks(found, "memory_limit") == []
    assert "too short to see memory grow" in checks(found, "memory_growth")[0].sentence


def test_memory_that_was_needed_at_the_beginning_is_no_leak() -> None:
    """Memory that grows in the first half, and a single peak, are no growth."""
    assert judge([run(service__points=memory(10, 20, 40, 80, *[160] * 8))], [SLO], None).verdict == "pass"
    peak = memory(*[100] * 11, 170)
    assert judge([run(service__points=peak)], [SLO], None).verdict == "pass"


def test_routes_with_few_requests_are_compared_together() -> None:
    """A request that one side is missing of a rare route is not 50 % disagreement; of all requests it counts."""
    stage = replace(STAGE, requests=[ROUTE, Requests("GET", "/y", "200", 2, {"1": 2})])
    found = judge([run(stages=[stage], service__requests={"GET /x": 200, "GET /y": 1})], [SLO], None)
    assert checks(found, "agreement")[0].measured == round(1 / 202, 4)
    assert found.verdict == "pass"


def test_a_run_that_ended_before_its_first_stage() -> None:
    """A run of a warm-up alone is rejected, not passed for want of anything to judge."""
    found = judge([run(stages=[WARM_UP])], [SLO], None)
    assert "clients" in {reason.gate for reason in found.reasons}


def outcomes(**by_gate: Outcome) -> list[Check]:
    """Checks with these outcomes."""
    return [Check(gate.replace("_", ":"), outcome, None, None, "") for gate, outcome in by_gate.items()]


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (outcomes(lost="pass", slo="pass"), "pass"),
        (outcomes(slo="fail", machine="pass"), "fail"),
        (outcomes(slo="fail", machine="not_measured"), "not_measured"),
        (outcomes(slo="pass", samples="not_measured"), "not_measured"),
        (outcomes(lost="fail", machine="not_measured"), "fail"),
        (outcomes(doubled="fail", machine="not_measured"), "fail"),
        (outcomes(restarts="fail", machine="not_measured"), "fail"),
        (outcomes(agreement="fail", machine="not_measured"), "not_measured"),
        (outcomes(clients="fail", samples="not_measured"), "fail"),
        (outcomes(clients="fail", samples="not_measured", generator="not_measured"), "not_measured"),
    ],
)
def test_the_verdict(found: Sequence[Check], verdict: Outcome) -> None:
    """What was lost, doubled or restarted fails on a busy machine, too; any other failure needs a measurement."""
    assert outcome_of(found) == verdict


def test_exit_statuses() -> None:
    """A release job can tell the three verdicts by the exit status; 2 is left for bad input."""
    assert EXIT_STATUS == {"pass": 0, "fail": 1, "not_measured": 3}


def test_several_runs_are_judged_together() -> None:
    """One bad run rejects all; events of all runs together make the samples."""
    few = run(service__indicators=seen(25, 25, (0, 0)))
    other = replace(few, shape="spike", ended=60)
    found = judge([few, other], [SLO], None)
    assert (found.verdict, found.shape, found.ended) == ("pass", "smoke,spike", 60)
    bad = replace(run(extractions__lost=["x"]), shape="spike")
    found = judge([RUN, bad], [SLO], None)
    assert found.verdict == "fail"
    assert [reason.sentence for reason in found.reasons] == ["spike: x"]


def test_a_verdict_meets_its_schema(tmp_path: Path) -> None:
    """verdict.json of a pass, a failure and a measurement that was none is valid by the schema that is printed."""
    schema = msgspec.json.schema(Verdict)
    for one in (RUN, run(extractions__lost=["x"]), run(machine__pressure_before=99.0)):
        verdict = judge([one], [SLO], Baseline())
        write_record(tmp_path / "verdict.json", verdict)
        jsonschema_rs.validate(schema, json.loads((tmp_path / "verdict.json").read_text()))
        assert read_record(tmp_path / "verdict.json", Verdict) == verdict
        assert bool(verdict.reasons) == (verdict.verdict != "pass")


def test_run_files(tmp_path: Path) -> None:
    """A run reads back as it was written; a file that is missing or something else is bad input that names it."""
    write_record(tmp_path / "run.json", RUN)
    assert read_record(tmp_path / "run.json", Run) == RUN
    with pytest.raises(BadInput, match=r"none\.json: cannot be read"):
        read_record(tmp_path / "none.json", Run)
    (tmp_path / "bad.json").write_text('{"version": "x"}')
    with pytest.raises(BadInput, match=r"bad\.json: .*\$\.version"):
        read_record(tmp_path / "bad.json", Run)


# -- regression --------------------------------------------------------------------------------------------------


def test_the_cost_of_a_request() -> None:
    """2 s for 200 requests are 10 ms, which is 0.16 of a calibration of 62.5 ms."""
    assert cost_of(RUN) == pytest.approx(0.16)
    faster = run(machine__calibration_seconds=0.03125, service__cpu_seconds=1)
    assert cost_of(faster) == cost_of(RUN)


@pytest.mark.parametrize(("cpu", "outcome"), [(2.0, "pass"), (2.19, "pass"), (2.21, "fail"), (1.0, "pass")])
def test_a_regression(cpu: float, outcome: Outcome) -> None:
    """A request may cost a tenth more than in the baseline, in units of the machine's speed, and not more."""
    baseline = Baseline().with_run(RUN)
    found = judge([run(service__cpu_seconds=cpu)], [SLO], baseline)
    [check] = checks(found, "regression")
    assert (check.outcome, check.measured) == (outcome, pytest.approx(cpu / 2, abs=0.001))
    assert "times the CPU time that it did in the baseline" in check.sentence


@pytest.mark.parametrize("change", [{"shape": "spike"}, {"scenario_digest": "other"}])
def test_a_run_that_the_baseline_does_not_know(change: dict[str, str]) -> None:
    """Only a run of the same shape and scenario is compared; another one passes, and the sentence says why."""
    baseline = Baseline().with_run(RUN)
    found = judge([run(**change, service__cpu_seconds=1000)], [SLO], baseline)
    [check] = checks(found, "regression")
    assert check.outcome == "pass"
    assert "--write-baseline" in check.sentence


def test_a_short_run_is_no_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a request cost in a short run is a matter of chance, and is not kept."""
    monkeypatch.setattr(regression, "MIN_SECONDS", 60.0)
    assert Baseline().with_run(RUN) == Baseline()


def test_a_baseline_is_kept(tmp_path: Path) -> None:
    """A baseline reads back; a run takes the place of the older one of its shape and leaves others alone."""
    baseline = Baseline().with_run(RUN).with_run(run(shape="spike")).with_run(run(service__cpu_seconds=4))
    write_baseline(tmp_path / "baseline.json", baseline)
    found = load_baseline(tmp_path / "baseline.json")
    assert found == baseline
    assert [(known.shape, known.cpu_milliseconds) for known in found.runs] == [("spike", 10), ("smoke", 20)]
    assert "2 cores, Linux, Python 3.11" in found.runs[0].machine


@pytest.mark.parametrize("content", ["", "[]", "{", '{"runs": [{}]}', '{"runs": 3}'])
def test_faulty_baselines(tmp_path: Path, content: str) -> None:
    """A file that is none is bad input that names it."""
    (tmp_path / "b.json").write_text(content)
    with pytest.raises(BadInput, match=r"--baseline .*b\.json: "):
        load_baseline(tmp_path / "b.json")


def test_a_baseline_without_a_cost(tmp_path: Path) -> None:
    """A cost of 0, against which everything is infinitely worse, is bad input."""
    known = Known("smoke", "abc", 0.0, 0.0, "2026-01-01", "m", 6.0)
    (tmp_path / "b.json").write_bytes(msgspec.json.encode(Baseline((known,))))
    with pytest.raises(BadInput, match="cost"):
        load_baseline(tmp_path / "b.json")


def test_a_baseline_that_cannot_be_written(tmp_path: Path) -> None:
    """A folder that is not there is bad input."""
    with pytest.raises(BadInput, match="cannot be written"):
        write_baseline(tmp_path / "none" / "b.json", Baseline())
    with pytest.raises(BadInput, match="cannot be read"):
        load_baseline(tmp_path / "none" / "b.json")
