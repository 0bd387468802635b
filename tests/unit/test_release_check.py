"""The release check gives one verdict of several steps, and says of each that failed the first thing that was wrong."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

from loadtest import release
from loadtest.release import STEPS, Done, Step, add_release, conclude, document
from loadtest.report.html_page import to_html
from loadtest.results import read_record, write_record
from loadtest.verdict import Outcome, Reason, Verdict

STEP = Step("load", "smoke and staircase", ("true",), "load")


def done(*outcomes: Outcome) -> list[Done]:
    """Steps with these outcomes."""
    return [
        Done(Step(f"step {place}", "work", ()), outcome, 90.0, f"sentence {place}", "last <words>")
        for place, outcome in enumerate(outcomes)
    ]


def verdict(folder: Path, *sentences: str) -> None:
    """Leave a verdict in the step's folder."""
    (folder / "load").mkdir()
    reasons = [Reason("lost", 1, 0, sentence) for sentence in sentences]
    write_record(folder / "load" / "verdict.json", Verdict("fail", reasons, [], "smoke", "", "", 0, 1))


def carried_out(folder: Path, script: str, *, name: str = "x", short: bool = False) -> Done:
    """Carry out a step that is a piece of Python."""
    step = Step(name, "work", (sys.executable, "-c", script, "{out}/load"))
    return release._carry_out(step, folder, short=short)


@pytest.mark.parametrize(
    ("outcomes", "wanted"),
    [
        (("pass", "pass"), "pass"),
        (("pass", "not_measured"), "not_measured"),
        (("not_measured", "fail"), "fail"),
        (("fail", "pass"), "fail"),
    ],
)
def test_a_failure_outweighs_no_measurement_and_that_a_pass(outcomes: tuple[Outcome, ...], wanted: Outcome) -> None:
    """Only a release of which every step passed passes, and a failed step is never hidden."""
    found = conclude(done(*outcomes), 5.0)
    assert found.verdict == wanted
    assert [one.gate for one in found.checks] == ["step 0", "step 1"]
    assert [one.sentence for one in found.reasons] == [
        f"sentence {place}" for place, outcome in enumerate(outcomes) if outcome != "pass"
    ]
    assert (found.shape, found.began) == ("release", 5.0)


def test_the_page_has_every_step() -> None:
    """Each step is shown with its outcome, its sentence and the end of what it said, as text."""
    steps = done("pass", "not_measured", "fail")
    text = to_html(document(steps, conclude(steps, 0.0)))
    for words in ("this revision must not be released", "sentence 2", "not measured", "1.5", "last &lt;words&gt;"):
        assert words in text, words
    assert "<words>" not in text


def test_a_step_that_passed_says_what_it_was() -> None:
    """A pass needs no reason."""
    assert release._sentence(STEP, Path("/nowhere"), "pass", 90.0) == "smoke and staircase, in 1.5 min"


def test_a_failed_step_says_its_first_reason(tmp_path: Path) -> None:
    """The sentence is that of the step's own verdict, with the number of the others."""
    verdict(tmp_path, "one was lost", "another", "a third")
    found = release._sentence(STEP, tmp_path, "fail", 60.0)
    assert found == "smoke and staircase, in 1.0 min: one was lost (and 2 more)"


def test_a_single_reason_has_no_others(tmp_path: Path) -> None:
    """With one reason nothing is counted."""
    verdict(tmp_path, "one was lost")
    assert release._sentence(STEP, tmp_path, "fail", 60.0).endswith(": one was lost")


def test_a_failed_step_without_a_verdict_names_its_log(tmp_path: Path) -> None:
    """A step that left no verdict, or an empty one, is looked up in its log."""
    wanted = f"see {tmp_path / 'load'}.log"
    assert release._sentence(STEP, tmp_path, "fail", 60.0).endswith(wanted)
    verdict(tmp_path)
    assert release._sentence(STEP, tmp_path, "fail", 60.0).endswith(wanted)


@pytest.mark.parametrize(("status", "outcome"), [(0, "pass"), (1, "fail"), (2, "fail"), (3, "not_measured")])
def test_the_exit_status_decides(tmp_path: Path, status: int, outcome: Outcome) -> None:
    """3 is no measurement, anything else but 0 a failure; the end of the output is kept."""
    found = carried_out(tmp_path, f"print('said'); raise SystemExit({status})")
    assert (found.outcome, found.tail) == (outcome, "said")


def test_the_folder_takes_its_place_in_the_command(tmp_path: Path) -> None:
    """{out} is the absolute folder of the release, and --short is for the autoscaler alone."""
    script = "import sys; print(sys.argv[1:])"
    assert carried_out(tmp_path, script, short=True).tail == f"['{tmp_path}/load']"
    assert carried_out(tmp_path, script, name="autoscaler", short=True).tail == f"['{tmp_path}/load', '--short']"


def test_a_verdict_of_an_earlier_check_is_not_quoted(tmp_path: Path) -> None:
    """A step that ends without a verdict of its own has none, whatever an earlier check left in the folder."""
    verdict(tmp_path, "old reason")
    step = Step("load", "work", (sys.executable, "-c", "raise SystemExit(2)"), "load")
    assert "old reason" not in release._carry_out(step, tmp_path, short=False).sentence


def test_a_program_that_is_missing_fails_its_step(tmp_path: Path) -> None:
    """A machine without make gets a verdict with the reason, and no traceback."""
    found = release._carry_out(Step("check", "lint", (str(tmp_path / "make"),)), tmp_path, short=False)
    assert found.outcome == "fail"
    assert "make cannot be run: No such file or directory" in found.tail


def test_a_release_leaves_a_verdict_and_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command ends with the verdict's status, and its files are in the folder."""
    monkeypatch.setattr(release, "STEPS", (Step("check", "lint", (sys.executable, "-c", "raise SystemExit(3)")),))
    parser = argparse.ArgumentParser()
    add_release(parser.add_subparsers())
    asked = parser.parse_args(["release", "--out", str(tmp_path)])
    assert asked.run(asked) == 3
    assert read_record(tmp_path / "verdict.json", Verdict).verdict == "not_measured"
    assert "could not be measured" in (tmp_path / "release.html").read_text(encoding="utf-8")
    assert "release.html" in capsys.readouterr().out


def test_every_step_has_a_name_and_a_meaning() -> None:
    """Names are distinct, since logs and --only go by them."""
    assert [step.name for step in STEPS] == ["check", "tests", "load", "autoscaler"]
    assert all(step.meaning and step.command for step in STEPS)


def test_the_last_line_of_a_long_output_is_shown() -> None:
    """The reason of a failure stands at the end, which no length of the lines before may cut off."""
    steps = [Done(STEP, "fail", 1.0, "x", "\n".join([*["a long line " * 10] * 11, "the reason"]))]
    assert "the reason" in to_html(document(steps, conclude(steps, 0.0)))


def test_a_step_that_said_nothing_is_shown_so() -> None:
    """An empty output is words, and no empty list."""
    steps = [Done(STEP, "pass", 1.0, "x", "")]
    assert "It said nothing." in to_html(document(steps, conclude(steps, 0.0)))
