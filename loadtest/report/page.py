"""The report of a load test: what a release engineer attaches to a ticket."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from loadtest.report.document import Bullets, Document, Facts, Section, Text
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

MAX_RUNS = 10
"""Runs shown, the last."""
MAX_BYTES = 500_000
"""A page that a ticket takes as an attachment; earlier runs are left out of a larger one."""
Pairs: TypeAlias = tuple[tuple[str, str], ...]


def render(verdict: Verdict, runs: Sequence[Run], objectives: Sequence[Objective] = ()) -> str:
    """Write the report as one HTML page, with as many of the last runs as it has room for."""
    parts = _runs(runs, objectives)
    page = to_html(_assemble(verdict, runs, parts))
    while len(page.encode()) > MAX_BYTES and len(parts) > 1:
        parts = parts[1:]
        page = to_html(_assemble(verdict, runs, parts))
    return page


def document(verdict: Verdict, runs: Sequence[Run], objectives: Sequence[Objective] = ()) -> Document:
    """Build the report: the verdict, its reasons, every gate, then each of the last runs."""
    return _assemble(verdict, runs, _runs(runs, objectives))


def _runs(runs: Sequence[Run], objectives: Sequence[Objective]) -> list[list[Section]]:
    """Build the sections of each of the last runs."""
    numbered = list(enumerate(runs, start=1))[-MAX_RUNS:]
    return [
        _run_sections(run, objectives, f"Run {place} of {len(runs)}" if len(runs) > 1 else "")
        for place, run in numbered
    ]


def _assemble(verdict: Verdict, runs: Sequence[Run], parts: Sequence[Sequence[Section]]) -> Document:
    """Put the verdict before the sections of the runs that are shown."""
    reasons = tuple(reason.sentence for reason in verdict.reasons)
    sections = [Section("Reasons", (Bullets(reasons),))] if reasons else []
    sections.append(Section("Gates", (gates(cases(verdict)),)))
    if len(parts) < len(runs):
        left = f"Of {len(runs):,} runs the last {len(parts):,} are shown: the page would be too large with all of them."
        sections.append(Section("Runs", (Text(left),)))
    whole = (*sections, *(section for part in parts for section in part))
    return Document(
        f"Load test of feature-agent: {verdict.shape}", verdict.verdict, whole, headline(verdict), _facts(verdict, runs)
    )


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
