"""Names that a reader has to decode do not come back: each stands here beside the term that replaced it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REPLACED = {
    "Dispensable": "OptionalDependency",
    "Away": "Unavailable",
    "Gathering": "Batcher",
    "TtlCache": "cachetools",
    "_Encoded": "cachetools",
    "Elsewhere": "ObservabilityLinks",
    "Door": "LoadShedder",
    "errand": "key",
    "Desk": "ExtractDependencies",
    "Cells": "MmapMetrics",
    "Shown": "Exemplar",
    "Observed": "HistogramSnapshot",
    "Board": "MetricFactory",
    "Retired": "DeadWorkerTotals",
    "Exchange": "HttpTransaction",
    "Leash": "SupervisorPipe",
    "Place": "WorkerIdentity",
    "Means": "ExtractionBackend",
    "Sight": "BreakerView",
    "Trouble": "FailureKind",
    "LastingConnection": "DedicatedConnection",
    "Seen": "ColumnMatch",
    "Sheet": "ColumnIndex",
    "lay_out": "classify_columns",
    "Scene": "PlanningContext",
    "Setting": "GrainChoice",
    "Forgotten": "Purged",
    "patient": "detached",
    "wait_no_more": "mark_detached",
    "to_its_end": "run_shielded",
    "ClosedCalls": "SanitizedToolCalls",
    "told": "a verb that says who does it",
    "mend": "fix",
    "whoever": "anyone, or the role",
}
"""A whole word of code, comments or docstrings in `service/`, and what is written instead."""
PREFIXES = re.compile(r"\b_?(?:MOST|LEAST)_[A-Z_]+\b|\b[A-Z_]*PATIENCE[A-Z_]*\b|\b[A-Z_]+_(?:MOST|LEAST)\b")
"""Bounds are MAX_ and MIN_, waits are ..._TIMEOUT."""
FILES = sorted((ROOT / "service").rglob("*.py"))
EXEMPT = {
    ("service/store/tables.py", "patient"): "the column's name in the database",
    ("service/store/repeats.py", "patient"): "the column's name in the database",
    ("service/features/personal.py", "patient"): "somebody who is treated",
    ("service/agents/prompts.py", "told"): "the prompt's own words",
}


@pytest.mark.parametrize("word", sorted(REPLACED))
def test_a_replaced_word_stays_away(word: str) -> None:
    """No module uses it, in code or in prose."""
    found = re.compile(rf"(?<![\w`'\"]){re.escape(word)}(?!\w)")
    places = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in FILES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if found.search(line) and (str(path.relative_to(ROOT)), word) not in EXEMPT
    ]
    assert not places, f"write {REPLACED[word]} instead of {word}: {places}"


def test_bounds_and_waits_have_the_usual_names() -> None:
    """Upper and lower bounds begin with MAX_ and MIN_, and no wait is called patience."""
    places = [
        f"{path.relative_to(ROOT)}:{number}: {found[0]}"
        for path in FILES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (found := PREFIXES.search(line))
    ]
    assert not places


def test_only_the_duckdb_engine_says_duckdb() -> None:
    """An engine's name stands in its own room, in its dialect and in the selection of engines, and nowhere else."""
    allowed = ("service/engines/duckdb/", "service/engines/sql/dialects/", "service/engines/selection.py")
    places = [
        str(path.relative_to(ROOT))
        for path in FILES
        if "duckdb" in path.read_text().lower() and not str(path.relative_to(ROOT)).startswith(allowed)
    ]
    assert not places
