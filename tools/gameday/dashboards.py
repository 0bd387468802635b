"""Panels and queries of the committed dashboards, with Grafana's variables filled in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Series = list[tuple[dict[str, str], float]]
"""The result of a query: the labels of each series and its value."""
VARIABLES = {
    "__rate_interval": "15m",
    "__range": "15m",
    "__interval": "15s",
    "job": ".+",
    "instance": ".+",
    "model": ".+",
    "route": ".+",
    "slo": "api-availability",
}
"""Values for Grafana's variables: All for those that offer it, and times longer than a whole test."""


def filled(expression: str) -> str:
    """Replace Grafana's variables in an expression, the longest names first."""
    for name in sorted(VARIABLES, key=len, reverse=True):
        expression = expression.replace(f"${{{name}}}", VARIABLES[name]).replace(f"${name}", VARIABLES[name])
    return expression


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the panels of a dashboard, those of collapsed rows as well, without the rows themselves."""
    for panel in board["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", [])
        else:
            yield panel
