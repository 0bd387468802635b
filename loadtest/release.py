"""`python -m loadtest release`: everything that a release has to pass, one verdict, and a page for the ticket."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec import Struct

from loadtest.errors import BadInput
from loadtest.report import console
from loadtest.report.document import Bullets, Cell, Column, Document, Section, Table, Text
from loadtest.report.html_page import to_html
from loadtest.results import read_record, write_record
from loadtest.running import make_folder
from loadtest.verdict import EXIT_STATUS, VERDICT_FILE, Check, Outcome, Reason, Verdict

ROOT = Path(__file__).parents[1]
PAGE_FILE = "release.html"
STEP_TIMEOUT_SECONDS = 2700.0
TAIL_LINES = 12
NOT_MEASURED = 3


class Step(Struct, frozen=True):
    """One part of the check: a command, and the folder in which it leaves a verdict of its own."""

    name: str
    meaning: str
    command: tuple[str, ...]
    folder: str = ""
    report: str = ""


class Done(Struct, frozen=True):
    """What came of a step."""

    step: Step
    outcome: Outcome
    seconds: float
    sentence: str
    tail: str


PYTHON = sys.executable
STEPS = (
    Step("check", "lint, types, import layers, generated files", ("make", "check")),
    Step(
        "tests",
        "the tests' short form: units, the API over HTTP, the Kubernetes objects, the rules of alerts",
        (
            *(PYTHON, "-m", "pytest", "-n", "auto", "--dist", "loadgroup", "-q", "-m", "not proof"),
            *("tests/unit", "tests/api", "tests/architecture", "tests/k8s", "tests/monitoring/test_rules.py"),
        ),
    ),
    Step(
        "load",
        "smoke and staircase against the objectives of observability/slo.yaml",
        (PYTHON, "-m", "loadtest", "gate", "--shape", "smoke", "--shape", "staircase", "--out", "{out}/load"),
        "load",
        "report.html",
    ),
    Step(
        "autoscaler",
        "the autoscalers' targets with real processes",
        (PYTHON, "-m", "loadtest", "hpa", "prove", "--out", "{out}/hpa"),
        "hpa",
        "hpa-proof.html",
    ),
)


def add_release(commands: Any) -> None:
    """Add `release`."""
    command = commands.add_parser("release", help="everything that a release has to pass", description="One verdict.")
    command.add_argument("--out", type=Path, required=True, help="folder for verdict.json and release.html")
    command.add_argument("--short", action="store_true", help="the autoscaler's proof with one to three pods")
    command.add_argument(
        "--only", action="append", choices=[step.name for step in STEPS], help="a step; several may be"
    )
    command.set_defaults(run=_release)


def _release(asked: argparse.Namespace) -> int:
    folder = make_folder(asked.out)
    (folder / VERDICT_FILE).unlink(missing_ok=True)
    steps = [step for step in STEPS if not asked.only or step.name in asked.only]
    began = time.time()
    done = [_carry_out(step, folder, short=asked.short) for step in steps]
    verdict = conclude(done, began)
    write_record(folder / VERDICT_FILE, verdict)
    (folder / PAGE_FILE).write_text(to_html(document(done, verdict)), encoding="utf-8")
    console.write(verdict, sys.stdout)
    sys.stdout.write(f"for the ticket: {folder / PAGE_FILE}\n")
    return EXIT_STATUS[verdict.verdict]


def _carry_out(step: Step, folder: Path, *, short: bool) -> Done:
    command = [part.replace("{out}", str(folder.absolute())) for part in step.command]
    if short and step.name == "autoscaler":
        command.append("--short")
    sys.stderr.write(f"{time.strftime('%H:%M:%S')}  {step.name}: {step.meaning}\n")
    began, log = time.monotonic(), folder / f"{step.name}.log"
    if step.folder:
        # A step that ends without a verdict must not be explained by that of an earlier check.
        (folder / step.folder / VERDICT_FILE).unlink(missing_ok=True)
    with log.open("wb") as output:
        try:
            status = subprocess.run(
                command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, timeout=STEP_TIMEOUT_SECONDS, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            status = NOT_MEASURED
        except OSError as error:
            status = EXIT_STATUS["fail"]
            output.write(f"{command[0]} cannot be run: {error.strerror}\n".encode())
    seconds = time.monotonic() - began
    tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:])
    outcome: Outcome = "pass" if status == 0 else "not_measured" if status == NOT_MEASURED else "fail"
    return Done(step, outcome, seconds, _sentence(step, folder, outcome, seconds), tail)


def _sentence(step: Step, folder: Path, outcome: Outcome, seconds: float) -> str:
    words = f"{step.meaning}, in {seconds / 60:.1f} min"
    if outcome == "pass":
        return words
    if step.folder:
        try:
            reasons = read_record(folder / step.folder / VERDICT_FILE, Verdict).reasons
        except BadInput:
            reasons = []
        if reasons:
            return f"{words}: {reasons[0].sentence}" + (f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else "")
    return f"{words}; see {folder / step.name}.log"


def conclude(done: Sequence[Done], began: float) -> Verdict:
    """Give the verdict on a release: no unless every part says yes, and no measurement is no yes."""
    checks = [Check(one.step.name, one.outcome, None, None, one.sentence) for one in done]
    outcomes = {check.outcome for check in checks}
    outcome: Outcome = "fail" if "fail" in outcomes else "not_measured" if "not_measured" in outcomes else "pass"
    reasons = [Reason(one.gate, None, None, one.sentence) for one in checks if one.outcome != "pass"]
    return Verdict(outcome, reasons, checks, "release", "", "", began, time.time())


def document(done: Sequence[Done], verdict: Verdict) -> Document:
    """Build the page for the ticket."""
    rows = tuple(
        (
            one.step.name,
            Cell(one.outcome.replace("_", " "), outcome=one.outcome),
            f"{one.seconds / 60:.1f}",
            one.sentence,
        )
        for one in done
    )
    columns = (Column("Step"), Column("Outcome"), Column("Minutes", numeric=True), Column("In words", wide=True))
    said = tuple(Section(one.step.name, (_said(one.tail),), 3) for one in done)
    return Document(
        "Release check of feature-agent",
        verdict.verdict,
        (Section("Steps", (Table("What was done", columns, rows),)), Section("What they said last", ()), *said),
        WORDS[verdict.verdict],
        (
            ("Revision", _git("rev-parse", "--short=12", "HEAD")),
            ("Changed files", _git("status", "--porcelain") or "none"),
            ("When", f"{datetime.fromtimestamp(verdict.began, UTC):%Y-%m-%d %H:%M} UTC"),
        ),
    )


def _said(tail: str) -> Bullets | Text:
    """Show the last lines one by one: a page cuts a long text at its end, where the reason of a failure is."""
    lines = tuple(line for line in tail.splitlines() if line.strip())
    return Bullets(lines) if lines else Text("It said nothing.")


WORDS: dict[Outcome, str] = {
    "pass": "Yes: this revision may be released.",
    "fail": "No: this revision must not be released.",
    "not_measured": "Neither yes nor no: something could not be measured.",
}


def _git(*arguments: str, run: Callable[..., Any] = subprocess.run) -> str:
    done = run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return str(done.stdout).strip()[:200] if done.returncode == 0 else "unknown"
