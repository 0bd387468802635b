"""Rules about what has room on a board and what an empty panel says, each with what was seen before it was kept."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tests.monitoring.boards import AGE, IN_LEGEND, metric_panels
from tests.monitoring.lint import Board, Rule
from tests.monitoring.lint_look import PADDING, PIXELS, defaults, meanings, of_type

SMALL, LARGE = 16, 28
"""The largest text of names and of values, in pixels."""
BROAD = 0.55
"""How broad a letter is, in its height."""
VALUE, LETTER = 90, 6.2
"""How broad a column of values is in a legend, with its gap, and a letter of its names."""
LENGTHS = {"job": 20, "instance": 17, "model": 20, "endpoint": 28, "method": 6}
"""Characters of the longest values of labels; of others 16."""
OTHERS = re.compile(r"\b(prometheus|alertmanager|otelcol|loki|pg|redis|kube|container|probe|telemetry_spans)_")
"""Metrics that are not there without another program, or without a setting."""


def _width(panel: dict[str, Any]) -> float:
    return PIXELS / 24 * panel["gridPos"]["w"] - PADDING


def _words(panel: dict[str, Any]) -> list[str]:
    """The words that its values can become."""
    return [text for text, _ in meanings(defaults(panel).get("mappings", [])).values() if text]


def bars_named_in_full(board: Board) -> Iterator[str]:
    """Names of bars stand above them: beside them they had two letters, "C..." and "D..."."""
    for panel in of_type(board, "bargauge"):
        if panel["options"]["namePlacement"] != "top" or panel["options"].get("text", {}).get("titleSize", 99) > SMALL:
            yield f"panel {panel['title']} has no room for the names of its bars"


def values_of_one_size(board: Board) -> Iterator[str]:
    """Values have a size of their own: left alone, `up` was 60 px high and `down` 14."""
    for panel in of_type(board, "stat", "bargauge"):
        text = panel["options"].get("text", {})
        size = text.get("valueSize")
        if not size or size > LARGE or text.get("titleSize", SMALL + 1) > SMALL:
            yield f"panel {panel['title']} has values of whatever size there is room for"
            continue
        together = sum(target["legendFormat"] != AGE for target in panel["targets"])
        longest = max((len(word) for word in _words(panel)), default=0)
        if longest * size * BROAD > _width(panel) / together - PADDING:
            yield f"panel {panel['title']} has no room for its longest word"


def legends_in_sight(board: Board) -> Iterator[str]:
    """A plot has room for three rows of its legend and their values: of five objectives one and a half were seen."""
    for panel in of_type(board, "timeseries"):
        if panel["gridPos"]["h"] < 8:
            yield f"panel {panel['title']} is too low for its legend"
        room = (_width(panel) - 2 * PADDING - VALUE * len(panel["options"]["legend"]["calcs"])) / LETTER
        for name in (target["legendFormat"] for target in panel["targets"]):
            labels = IN_LEGEND.findall(name)
            if len(IN_LEGEND.sub("", name)) + sum(LENGTHS.get(label, 16) for label in labels) > room:
                yield f"panel {panel['title']} has no room for the values beside {name}"
            if "instance" in labels and labels[0] != "instance":
                yield f"panel {panel['title']} does not begin {name} with what differs"


def gaps_stay_gaps(board: Board) -> Iterator[str]:
    """Missing samples break a line at the step of the query; any other `insertNulls` makes Grafana join them."""
    for panel in of_type(board, "timeseries"):
        custom = defaults(panel)["custom"]
        if custom.get("spanNulls") is not False or custom.get("insertNulls"):
            yield f"panel {panel['title']} joins the ends of a gap"


def good_state_first(board: Board) -> Iterator[str]:
    """Words of states are listed from good to bad: "none answers" stood before "all answer"."""
    for panel in of_type(board, "state-timeline"):
        order = sorted(
            (result.get("index", 0), result.get("color"))
            for one in defaults(panel)["mappings"]
            for result in (one["options"].values() if one["type"] == "value" else [one["options"]["result"]])
        )
        if order[0][1] != "green":
            yield f"panel {panel['title']} does not begin with the good state"


def unknown_is_not_none(board: Board) -> Iterator[str]:
    """Empty can mean that what counts is away: "No log line was lost" stood there without Alloy."""
    for panel in metric_panels(board):
        text = defaults(panel).get("noValue", "")
        counts = any(OTHERS.search(target["expr"]) for target in panel["targets"])
        if counts and text.startswith(("No ", "None")) and " or " not in text:
            yield f"panel {panel['title']} says none where nothing is known"


def cost_where_a_price_is_known(board: Board) -> Iterator[str]:
    """A model without a price has no cost: it stood there as $0.0000, as if it were free."""
    for panel in metric_panels(board):
        for expression in (target["expr"] for target in panel["targets"]):
            if "model_cost_usd_total" in expression and "unless sum by (model)" not in expression:
                yield f"panel {panel['title']} shows a cost of 0 for models without a price"


ROOM_RULES: tuple[Rule, ...] = (
    bars_named_in_full,
    values_of_one_size,
    legends_in_sight,
    gaps_stay_gaps,
    good_state_first,
    unknown_is_not_none,
    cost_where_a_price_is_known,
)
