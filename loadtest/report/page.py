"""The report of a load test: what a release engineer attaches to a ticket."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from loadtest.report.document import Bullets, Document, Facts, Section
from loadtest.report.formats import moment, number, span
from loadtest.report.gates import cases, gates, headline
from loadtest.report.html_page import to_html
from loadtest.report.objectives import Objective
from loadtest.report.run_tables import (
    extractions_section,
    failures_section,
    machine_section,
    routes_section,
    slo_section,
    stages_section,
)
from loadtest.report.service_charts import service_section
from loadtest.report.stage_charts import latency_section, load_section
from loadtest.results import Run
from loadtest.verdict import Verdict

MAX_RUNS = 5
"""Runs shown in full, the newest: a page stays below 500 KB."""
Pairs: TypeAlias = tuple[tuple[str, str], ...]


def render(verdict: Verdict, runs: Sequence[Run], objectives: Sequence[Objective] = ()) -> str:
    """Write the report as one HTML page."""
    return to_html(document(verdict, runs, objectives))


def document(verdict: Verdict, runs: Sequence[Run], objectives: Sequence[Objective] = ()) -> Document:
    """Build the report: the verdict, its reasons, every gate, then each run."""
    reasons = tuple(reason.sentence for reason in verdict.reasons)
    sections = [Section("Reasons", (Bullets(reasons),))] if reasons else []
    sections.append(Section("Gates", (gates(cases(verdict)),)))
    shown = runs[-MAX_RUNS:]
    for index, run in enumerate(shown, start=1 + len(runs) - len(shown)):
        sections += _run_sections(run, objectives, f"Run {index} of {len(runs)}" if len(runs) > 1 else "")
    title = f"Load test of feature-agent: {verdict.shape}"
    return Document(title, verdict.verdict, tuple(sections), headline(verdict), _facts(verdict, runs))


def _facts(verdict: Verdict, runs: Sequence[Run]) -> Pairs:
    """List what was tested, when and how."""
    versions = ", ".join(dict.fromkeys(run.service_version for run in runs if run.service_version)) or "unknown"
    scenarios = ", ".join(dict.fromkeys(f"{run.scenario} ({run.scenario_digest[:12]})" for run in runs)) or "unknown"
    return (
        ("Service", verdict.host),
        ("Version", versions),
        ("Shape", verdict.shape),
        ("Scenario", scenarios),
        ("Began", moment(verdict.began)),
        ("Length", span(verdict.ended - verdict.began)),
        ("Run", verdict.run_id),
        *((("Runs", number(len(runs))),) if len(runs) > 1 else ()),
    )


def _run_sections(run: Run, objectives: Sequence[Objective], name: str) -> list[Section]:
    """Build the sections of one run; of several, below a heading of its own."""
    sections = [
        load_section(run),
        latency_section(run, objectives),
        service_section(run),
        routes_section(run),
        slo_section(run, objectives),
        stages_section(run),
        extractions_section(run),
        machine_section(run),
        failures_section(run),
    ]
    if not name:
        return sections
    facts = Facts((("Run", run.id), ("Began", moment(run.began)), ("Length", span(run.ended - run.began))))
    return [Section(name, (facts,)), *(replace(section, level=3) for section in sections)]
