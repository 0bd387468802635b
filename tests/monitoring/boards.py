"""The committed dashboards as their reader sees them: every query, and what it is expected to bring."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.gameday.dashboards import filled, panels

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "observability/grafana/dashboards"

LABEL_VALUES = re.compile(r"label_values\((?P<series>.+), (?P<label>\w+)\)")
IN_LEGEND = re.compile(r"\{\{(\w+)\}\}")


AGE = "no data for"
"""The name of the age of a number that is out of date."""
NOT_ALWAYS = {
    AGE: "the service answers",
    "kept": "the objective is missed",
    "missed": "the objective is kept",
    "memory limit": "a machine without a limit for the process has none in sight",
}
"""Names of series that are not there while all is well, or while it is not, each with when."""
WHERE_COUNTED = re.compile(r" and [^@]* @ end\(\).* > 0$")
"""The end of a query that leaves out series which counted nothing in the time range."""


@dataclass(frozen=True)
class Asked:
    """One query of a board."""

    where: str
    expression: str
    """As it is in the file, with Grafana's variables."""
    labels: tuple[str, ...] = ()
    """That the result has to have, because a legend, a column or a variable shows them."""
    kind: str = "panel"
    """panel, variable or annotation."""
    always: bool = True
    """Whether it brings series at any time."""

    def filled(self) -> str:
        """With the variables filled in."""
        return filled(self.expression)

    def uncounted(self) -> str:
        """Likewise, with the series that counted nothing in the time range."""
        return filled(WHERE_COUNTED.sub("", self.expression))


def boards() -> list[dict[str, Any]]:
    """Every dashboard's JSON."""
    return [json.loads(file.read_text()) for file in sorted(FOLDER.glob("*.json"))]


def metric_panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Its panels over metrics: those of log lines and traces, which ask another data source, are left out."""
    yield from (panel for panel in panels(board) if panel["datasource"]["type"] == "prometheus")


def story_panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Its panels of log lines and traces."""
    yield from (panel for panel in panels(board) if panel["datasource"]["type"] != "prometheus")


def queries(found: Sequence[dict[str, Any]] | None = None) -> list[Asked]:
    """Every query of every board: panels' targets, variables, annotations."""
    every = boards() if found is None else found
    return [asked for board in every for asked in (*_targets(board), *_variables(board), *_annotations(board))]


def _targets(board: dict[str, Any]) -> Iterator[Asked]:
    for panel in metric_panels(board):
        shown = _columns(panel)
        for target in panel["targets"]:
            where = f"{board['uid']} / {panel['title']} / {target['refId']}"
            legend = () if shown else tuple(IN_LEGEND.findall(target["legendFormat"]))
            if panel["type"] == "heatmap":
                legend = ("le",)
            yield Asked(where, target["expr"], legend or shown, always=target["legendFormat"] not in NOT_ALWAYS)


def _columns(panel: dict[str, Any]) -> tuple[str, ...]:
    for one in panel.get("transformations", ()):
        if one["id"] == "organize":
            return tuple(name for name in one["options"]["includeByName"] if not name.startswith("Value"))
    return ()


def _variables(board: dict[str, Any]) -> Iterator[Asked]:
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            match = LABEL_VALUES.fullmatch(variable["query"])
            assert match, variable["query"]
            where = f"{board['uid']} / variable {variable['name']}"
            yield Asked(where, match["series"], (match["label"],), "variable")


def _annotations(board: dict[str, Any]) -> Iterator[Asked]:
    for annotation in board["annotations"]["list"]:
        shown = IN_LEGEND.findall(annotation["titleFormat"] + annotation["textFormat"])
        where = f"{board['uid']} / annotation {annotation['name']}"
        yield Asked(where, annotation["expr"], (*shown, annotation["tagKeys"]), "annotation")
