"""The report of a demo: the one object that `--json` prints and the terminal shows."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from msgspec import Struct
from platformdirs import user_data_path

from tools.demo.client import Result
from tools.demo.metrics import Change, Exemplar
from tools.demo.process import LogLine
from tools.demo.trace_tree import Node

KEY_FILE = "development.key"
"""In the service's data folder; `serve` prints its path."""


class Step(Struct, frozen=True):
    """One step and its duration."""

    name: str
    seconds: float


class DemoReport(Struct, frozen=True):
    """One request with its result, trace, log lines, metrics and exemplars."""

    sentence: str
    quality_threshold: str
    dataset_id: str
    rows: int
    request_id: str
    trace_id: str
    processing_time: float
    """Seconds, as measured by the service."""
    steps: tuple[Step, ...]
    result: Result
    trace: tuple[Node, ...]
    log: tuple[LogLine, ...]
    metrics: tuple[Change, ...]
    exemplars: tuple[Exemplar, ...]
    table: tuple[tuple[str, ...], ...]
    """The feature table's header and first rows."""
    commands: tuple[str, ...]


def manual_commands(sentence: str, threshold: str, data_dir: Path | None) -> tuple[str, ...]:
    """Return shell commands that do the same against `make serve` with its defaults."""
    key = shlex.quote(str((data_dir.resolve() if data_dir else user_data_path("feature-agent")) / KEY_FILE))
    api = "http://127.0.0.1:8000/api/v1"
    curl = 'curl -H "Authorization: Bearer $KEY"'
    body = f"""{{"dataset_id": "event-log", "quality_threshold": "{threshold}",
      "feature_description": "{sentence}"}}"""
    return (
        "make serve  # in another terminal; its documentation: http://127.0.0.1:8000/api/docs",
        f"{_python()} -m tools.demo.sample event-log.csv",
        f"KEY=$(cat {key})  # serve prints this path",
        f"{curl} -H 'Content-Type: text/csv' --data-binary @event-log.csv \\\n  '{api}/datasets?dataset_id=event-log'",
        f"{curl} -H 'Content-Type: application/json' \\\n  -d '{body}' \\\n  {api}/extract-features",
        "ID=...  # the extraction_id of that answer",
        f'{curl} "{api}/extraction/$ID/features?format=csv"',
        "curl http://127.0.0.1:8000/metrics",
    )


def _python() -> str:
    """Return the running interpreter as a user would type it: relative when it is below the working folder."""
    interpreter, here = Path(sys.executable), Path.cwd()
    within = interpreter.is_relative_to(here)
    return shlex.quote(os.path.relpath(interpreter, here) if within else interpreter.name)
