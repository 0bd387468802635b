from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from observability.source.__main__ import drift, main, rendered, write
from observability.source.durations import Scale, seconds_of, written
from observability.source.promql import selected, suffixed
from observability.source.slo import load_objectives
from service.telemetry import catalog
from tests.monitoring.tools import OBSERVABILITY, ROOT

OBJECTIVES = load_objectives(OBSERVABILITY / "slo.yaml")
RULE_FILE = "observability/alerts/api.rules.yml"


def test_what_is_committed_is_what_is_rendered() -> None:
    """Nobody has changed a generated file by hand, or the source without rendering."""
    assert main(["--check"]) == 0


@pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="this is no git checkout")
def test_generated_files_are_marked() -> None:
    """`.gitattributes` marks every rendered file as generated, and no other file beside them."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "docs", "k8s", "observability"], cwd=ROOT, capture_output=True, check=True
    )
    files = [path for path in listed.stdout.decode().split("\0") if path and not path.startswith("docs/measurements/")]
    command = ["git", "check-attr", "--stdin", "-z", "linguist-generated"]
    asked = "\0".join({*files, *rendered()}).encode()
    found = subprocess.run(command, cwd=ROOT, input=asked, capture_output=True, check=True).stdout.decode().split("\0")
    marked = {path for path, value in zip(found[::3], found[2::3], strict=False) if value == "set"}
    assert marked - {"docs/operations.md"} == set(rendered()) - {"docs/operations.md"}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The generated files in a folder of their own."""
    shutil.copytree(OBSERVABILITY, tmp_path / "observability", ignore=shutil.ignore_patterns("__pycache__"))
    for path in rendered():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    return tmp_path


def test_drift_is_told_file_by_file_and_mended(copy: Path) -> None:
    """A file that was changed, one that is missing and one that nothing renders are told; rendering mends all."""
    files = rendered()
    (copy / RULE_FILE).write_text("groups: []\n")
    (copy / "observability/alerts/jobs.rules.yml").unlink()
    (copy / "observability/alerts/old.rules.yml").write_text("groups: []\n")
    assert drift(files, copy) == [
        f"{RULE_FILE} differs from its source",
        "observability/alerts/jobs.rules.yml is missing",
        "observability/alerts/old.rules.yml is not generated any more",
    ]
    write(files, copy)
    assert drift(files, copy) == []


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ("objective: 99.5", "objective: high"),
        ("    objective: 99.5\n", ""),
        ("traffic_floor: 5", "traffic_flor: 5"),
        ("      within: 0.25\n", ""),
        ("      within: 0.25\n", "      within: 0.25\n      bad: x\n"),
        ("      total: api_requests_total{", "      waiting: x\n      total: api_requests_total{"),
    ],
)
def test_a_fault_in_the_objectives_is_refused(tmp_path: Path, change: str, place: str) -> None:
    """A wrong type, a missing or unknown member and half an indicator are refused, never guessed."""
    text = (OBSERVABILITY / "slo.yaml").read_text()
    assert change in text
    (tmp_path / "slo.yaml").write_text(text.replace(change, place, 1))
    with pytest.raises(msgspec.ValidationError):
        load_objectives(tmp_path / "slo.yaml")


def test_bounds_of_objectives_are_bounds_of_their_histograms() -> None:
    """A latency objective asks for a bucket that exists, or its ratio would silently be empty."""
    buckets = {metric.name: metric.buckets for metric in catalog.METRICS}
    asked = [slo.sli for slo in OBJECTIVES.slos if slo.sli.histogram is not None]
    assert len(asked) == 3
    for sli in asked:
        assert sli.within in buckets[str(sli.histogram).partition("{")[0]]


def test_objectives_are_the_contract() -> None:
    """Names and objectives are those that users were promised, over 30 days."""
    assert OBJECTIVES.window == "30d"
    assert {slo.name: slo.objective for slo in OBJECTIVES.slos} == {
        "api-availability": 99.5,
        "api-latency-read": 99,
        "api-latency-extract": 95,
        "extraction-success": 99,
        "extraction-freshness": 99,
    }


@pytest.mark.parametrize("pair", OBJECTIVES.burn_alerts, ids=lambda pair: pair.long)
def test_pairs_spend_what_they_say(pair: object) -> None:
    """The pairs fire after 2, 5, 10 and 10 percent of the month's budget, and each can fire at all."""
    assert hasattr(pair, "long")
    share = pair.factor * seconds_of(pair.long) / seconds_of(OBJECTIVES.window)  # type: ignore[attr-defined]
    assert round(share, 4) in {0.02, 0.05, 0.1}
    assert all(pair.factor * slo.budget < 1 for slo in OBJECTIVES.slos)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("duration", "seconds"), [("1500ms", 1.5), ("90s", 90), ("5m", 300), ("6h", 21_600), ("30d", 2_592_000)]
)
def test_durations_go_both_ways(duration: str, seconds: float) -> None:
    """A duration is read, and written in the largest unit that divides it."""
    assert seconds_of(duration) == seconds
    assert seconds_of(written(seconds)) == seconds


def test_a_strange_duration_is_refused() -> None:
    """Two units, no unit or none at all are no duration."""
    for text in ("1h30m", "5", "m", ""):
        with pytest.raises(ValueError, match="no duration"):
            seconds_of(text)


def test_queries_are_scaled() -> None:
    """Ranges, offsets and seconds are divided, each down to its least; counts and names stay."""
    fast = Scale(divisor=60, shortest_range=8, least_threshold=2)
    query = "rate(a_total[5m]) > 0.5 and b[1h:1m] > <1d> or c offset 30m < <30s>"
    assert Scale().query(query) == "rate(a_total[5m]) > 0.5 and b[1h:1m] > 86400 or c offset 30m < 30"
    assert fast.query(query) == "rate(a_total[8s]) > 0.5 and b[1m:8s] > 1440 or c offset 30s < 2"


def test_what_follows_from_something_outlasts_it() -> None:
    """Scaled down, a duration that has to be longer than the shortest window is two of them."""
    assert Scale().outlasting("6m") == "6m"
    assert Scale(divisor=60, shortest_range=8).outlasting("6m") == "16s"
    assert Scale(divisor=2, shortest_range=8).outlasting("6m") == "3m"


def test_selectors_take_more_matchers() -> None:
    """Matchers and suffixes join a selector with and without braces."""
    assert selected("a", 'b="c"') == 'a{b="c"}'
    assert selected('a{d="e"}', 'b="c"') == 'a{b="c",d="e"}'
    assert suffixed('a{d="e"}', "_count") == 'a_count{d="e"}'
