"""What panels show of given series: values by Prometheus' own engine, then words and colours by their settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from observability.source.dashboards import names
from tests.monitoring.boards import AGE, boards, filled, panels
from tests.monitoring.lint_look import defaults, meanings, overridden
from tests.monitoring.tools import run, tool

BOARDS = {board["uid"]: board for board in boards()}
API, WORKER = 'up{job="feature-agent",instance="a"}', 'up{job="feature-agent-worker",instance="w"}'
OWN = 'job="feature-agent",instance="a"'
FIRES = 'ALERTS{{alertname="{}",alertstate="firing",severity="{}"}}'
UP, DOWN, DIED = "1x60", "0x60", "1x20 0x39"
"""A sample each 15 s, for a quarter of an hour; what died did so after five minutes."""
WATCHED = {FIRES.format("Watchdog", "none"): UP}
Series = Mapping[str, str]
Shown = Mapping[str, tuple[float, str | None, str | None]]
"""Value, word and colour by the name of the series."""

CASES: dict[str, tuple[str, str, Series, Shown]] = {
    "the API answers": (
        names.OVERVIEW,
        "API processes",
        {API: UP},
        {"API": (1, "up", "green"), "up": (1, None, "transparent"), "expected": (1, None, "transparent")},
    ),
    "the API died": (
        names.OVERVIEW,
        "API processes",
        {API: DIED},
        {
            "API": (0, "down", "red"),
            "up": (0, None, "transparent"),
            "expected": (1, None, "transparent"),
            AGE: (600, None, "gray"),
        },
    ),
    "one API of two died": (
        names.OVERVIEW,
        "API processes",
        {API: DIED, API.replace('"a"', '"b"'): UP},
        {"API": (0.5, "partly up", "orange"), "up": (1, None, "transparent"), "expected": (2, None, "transparent")},
    ),
    "no API is known": (names.OVERVIEW, "API processes", {WORKER: UP}, {"API": (0, "down", "red")}),
    "the worker died": (
        names.OVERVIEW,
        "Worker processes",
        {API: UP, WORKER: DIED},
        {
            "Workers": (0, "down", "red"),
            "up": (0, None, "transparent"),
            "expected": (1, None, "transparent"),
            AGE: (600, None, "gray"),
        },
    ),
    "the API works itself": (
        names.OVERVIEW,
        "Worker processes",
        {API: UP, f"extraction_workers{{{OWN}}}": "3x60"},
        {"Workers": (1, "up", "green")},
    ),
    "nothing fires": (
        names.OVERVIEW,
        "Worst alert",
        WATCHED,
        {
            "worst": (0, "none", "green"),
            "critical": (0, None, "transparent"),
            "warnings": (0, None, "transparent"),
        },
    ),
    "a warning fires": (
        names.OVERVIEW,
        "Worst alert",
        {**WATCHED, FIRES.format("BackupTooOld", "warning"): UP},
        {
            "worst": (1, "warning", "orange"),
            "critical": (0, None, "transparent"),
            "warnings": (1, None, "transparent"),
        },
    ),
    "a critical alert fires": (
        names.OVERVIEW,
        "Worst alert",
        {**WATCHED, FIRES.format("BackupTooOld", "warning"): UP, FIRES.format("ApiDown", "critical"): UP},
        {
            "worst": (2, "critical", "red"),
            "critical": (1, None, "transparent"),
            "warnings": (1, None, "transparent"),
        },
    ),
    "Redis is away": (
        names.OVERVIEW,
        "Dependencies now",
        {f'dependency_up{{{OWN},dependency="{name}"}}': state for name, state in (("database", UP), ("redis", DOWN))},
        {"worst": (1, "degraded", "orange")},
    ),
    "the database is away": (
        names.OVERVIEW,
        "Dependencies now",
        {f'dependency_up{{{OWN},dependency="{name}"}}': state for name, state in (("database", DOWN), ("redis", UP))},
        {"worst": (2, "no database", "red")},
    ),
    "a model is left alone": (
        names.OVERVIEW,
        "Dependencies now",
        {f'dependency_up{{{OWN},dependency="database"}}': UP, f'model_breaker_state{{{OWN},model="m"}}': "2x60"},
        {"worst": (1, "degraded", "orange")},
    ),
    "no model is left alone": (
        names.OVERVIEW,
        "Dependencies now",
        {f'dependency_up{{{OWN},dependency="database"}}': UP, f'model_breaker_state{{{OWN},model="m"}}': "0x60"},
        {"worst": (0, "all up", "green")},
    ),
    "one model fails among good ones": (
        names.MODEL,
        "Failed calls of the worst model",
        {
            f'model_requests_total{{{OWN},model="m",status="error"}}': "0+1x60",
            f'model_requests_total{{{OWN},model="n",status="success"}}': "0+99x60",
        },
        {"failed": (1, None, "red")},
    ),
    "a model without a price": (
        names.MODEL,
        "Spent in the time range",
        {
            f'model_cost_usd_total{{{OWN},model="m"}}': "0x60",
            f'model_unpriced_requests_total{{{OWN},model="m"}}': "0+1x60",
        },
        {},
    ),
    "a model that is free": (
        names.MODEL,
        "Spent in the time range",
        {
            f'model_cost_usd_total{{{OWN},model="m"}}': "0x60",
            f'model_unpriced_requests_total{{{OWN},model="n"}}': "0+1x60",
        },
        {"spent": (0, None, "text")},
    ),
    "requests in flight": (
        names.OVERVIEW,
        "In flight",
        {API: UP, f"api_requests_in_flight{{{OWN}}}": "7x60"},
        {"in flight": (7, None, "text")},
    ),
    "requests of a dead API": (
        names.OVERVIEW,
        "In flight",
        {API: DIED, f"api_requests_in_flight{{{OWN}}}": "7x60"},
        {AGE: (600, None, "gray")},
    ),
    "requests without a failure": (
        names.OVERVIEW,
        "Answered 5xx",
        {API: UP, f'api_requests_total{{{OWN},endpoint="/x",status="200"}}': "0+1x60"},
        {"5xx": (0, None, "green")},
    ),
    "no requests": (
        names.OVERVIEW,
        "Answered 5xx",
        {API: UP, f'api_requests_total{{{OWN},endpoint="/x",status="200"}}': "9x60"},
        {},
    ),
    "a backup of an hour": (
        names.SATURATION,
        "Age of the last backup",
        {f"backup_last_success_timestamp_seconds{{{OWN}}}": "100x60"},
        {"age": (800, None, "green")},
    ),
    "no backup ever": (
        names.SATURATION,
        "Age of the last backup",
        {f"backup_last_success_timestamp_seconds{{{OWN}}}": "0x60"},
        {"age": (-1, "No backup was ever made: feature-agent backup URL", "red")},
    ),
    "an exporter is silent": (
        names.SATURATION,
        "Servers, as their exporters see them",
        {"redis_up": UP},
        {"PostgreSQL": (-1, "not known", "gray"), "Redis": (1, "up", "green")},
    ),
    "an idle minute": (
        names.EXTRACTIONS,
        "Not failed by us",
        {f'feature_extractions_total{{{OWN},status="completed"}}': "9x60"},
        {},
    ),
    "a limit out of sight": (
        names.OVERVIEW,
        "Memory",
        {f"process_resident_memory_bytes{{{OWN}}}": "100x60", f"memory_limit_bytes{{{OWN}}}": "1000x60"},
        {"{{instance}} {{job}}": (100, None, None)},
    ),
    "a limit in sight": (
        names.OVERVIEW,
        "Memory",
        {f"process_resident_memory_bytes{{{OWN}}}": "101x60", f"memory_limit_bytes{{{OWN}}}": "1000x60"},
        {"{{instance}} {{job}}": (101, None, None), "memory limit": (1000, None, "red")},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_panel_shows_what_is(case: str, tmp_path: Path) -> None:
    """A quarter of an hour after the series began, the panel has these values, words and colours, and no others."""
    uid, title, series, shown = CASES[case]
    panel = next(panel for panel in panels(BOARDS[uid]) if panel["title"] == title)
    asked = [
        {"expr": f"sum({filled(target['expr'])})", "eval_time": "15m", "exp_samples": _samples(shown, target)}
        for target in panel["targets"]
    ]
    inputs = [{"series": name, "values": values} for name, values in series.items()]
    tests = [{"interval": "15s", "input_series": inputs, "promql_expr_test": asked}]
    (tmp_path / "case.yml").write_text(yaml.safe_dump({"rule_files": [], "tests": tests}))
    run(tool("promtool"), "test", "rules", tmp_path / "case.yml")
    assert {name: appearance(panel, name, value) for name, (value, *_) in shown.items()} == {
        name: tuple(looks) for name, (_, *looks) in shown.items()
    }


def _samples(shown: Shown, target: dict[str, Any]) -> list[dict[str, Any]]:
    name = target["legendFormat"]
    return [{"labels": "{}", "value": shown[name][0]}] if name in shown else []


def appearance(panel: dict[str, Any], name: str, value: float) -> tuple[str | None, str | None]:
    """The word and colour that Grafana gives a value: by mapping, then the series' own colour, then by thresholds."""
    own = overridden(panel, name)
    said = meanings(own.get("mappings", defaults(panel).get("mappings", [])))
    for key, (text, colour) in said.items():
        low, dots, high = key.partition("..")
        if key == f"{value:g}" or (dots and float(low) <= value <= float(high)):
            return text, colour
    colour = own.get("color", defaults(panel).get("color", {}))
    if colour.get("mode") != "thresholds":
        return None, colour.get("fixedColor")
    steps = defaults(panel)["thresholds"]["steps"]
    return None, [step["color"] for step in steps if step["value"] is None or step["value"] <= value][-1]
