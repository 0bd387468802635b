"""Rules about what a board shows at first sight, each with what was seen in Grafana before it was kept."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tests.monitoring.boards import AGE, NOT_ALWAYS, WHERE_COUNTED, metric_panels
from tests.monitoring.lint import Board, Rule

NEUTRAL = {"text", "blue", "gray", "transparent"}
PER_MINUTE = {"opm", "reqpm", "cpm"}
PER_SECOND = {"ops", "reqps", "cps"}
COUNTS = PER_MINUTE | PER_SECOND | {"short"}
FAST = {
    "Stages of the run": "a load test asks many times a second, and names its rates so",
    "Requests of Locust": "likewise",
    "Requests of the service": "likewise: it stands beside Locust's",
    "Transactions": "each request makes several",
    "Spans in Jaeger": "each request makes several",
    "Log lines": "each request writes one",
}
"""Panels whose rates are read a second, each with the reason."""
EACH_SERIES = {
    "Requests by status": "four classes",
    "Attempts": "the count of the database is one series",
    "Deadlocks": "one database",
    "Garbage collections": "three generations, none of which rests",
    "Events": "one objective",
    "Notifications": "a receiver that sends nothing is what one looks for",
    "Tail sampling": "two decisions",
}
"""Panels by label that show series of zeros too, each with the reason."""
LONGEST = {"endpoint": 46, "alertname": 30, "version": 16, "instance": 41, "queryid": 20}
"""Characters of the longest value of a label that takes the room that other columns leave."""
PIXELS, CHARACTER, PADDING = 1600, 7.4, 16
"""How wide the page is, and what a character of a table and the edges of its cells take."""


def defaults(panel: dict[str, Any]) -> dict[str, Any]:
    """What holds for each series of the panel."""
    return panel["fieldConfig"]["defaults"]


def overridden(panel: dict[str, Any], name: str) -> dict[str, Any]:
    """What holds for the series or column of that name alone."""
    return {
        one["id"]: one["value"]
        for of in panel["fieldConfig"]["overrides"]
        if of["matcher"]["options"] == name
        for one in of["properties"]
    }


def of_type(board: Board, *types: str) -> Iterator[dict[str, Any]]:
    """The board's panels over metrics of these types."""
    yield from (panel for panel in metric_panels(board) if panel["type"] in types)


def meanings(mapped: list[dict[str, Any]]) -> dict[str, tuple[str | None, str | None]]:
    """Text and colour by value; a range is `from..to`, no value is `null+nan`."""
    found: dict[str, tuple[str | None, str | None]] = {}
    for one in mapped:
        options = one["options"]
        if one["type"] == "value":
            found |= {value: (result.get("text"), result.get("color")) for value, result in options.items()}
        elif one["type"] == "range":
            result = options["result"]
            found[f"{options['from']}..{options['to']}"] = (result.get("text"), result.get("color"))
        else:
            found[options["match"]] = (options["result"].get("text"), options["result"].get("color"))
    return found


def states_in_words(board: Board) -> Iterator[str]:
    """A state has a word and a colour: merged by thresholds it loses both, and an open breaker was green."""
    for panel in of_type(board, "state-timeline"):
        said = meanings(defaults(panel).get("mappings", []))
        states = [word for value, word in said.items() if value != "null"]
        if len(states) < 2 or not all(text and colour for text, colour in states):
            yield f"panel {panel['title']} has states without a word and a colour"
        if not {"red", "green"} <= {colour for _, colour in states}:
            yield f"panel {panel['title']} has no state in red, or none in green"
        if defaults(panel).get("color", {}).get("mode") != "fixed":
            yield f"panel {panel['title']} colours by something else than its words"
        if said.get("null") != ("not known", "gray"):
            yield f"panel {panel['title']} leaves a gap where nothing is known"


def quiet_annotations(board: Board) -> Iterator[str]:
    """Alerts mark moments: a region while each fired painted every plot solid red."""
    for one in board["annotations"]["list"]:
        if "ALERTS" not in one["expr"] or not one["enable"]:
            continue
        if 'severity="critical"' not in one["expr"]:
            yield f"annotation {one['name']} is not about critical alerts alone"
        if not re.search(r"(.+) unless \1 offset \$__interval or \1 offset \$__interval unless \1$", one["expr"]):
            yield f"annotation {one['name']} is not about the moments when an alert begins and ends"


def numbers_of_now(board: Board) -> Iterator[str]:
    """The last sample of a range can be old: with the API dead for two minutes all numbers stood there in green."""
    for panel in of_type(board, "stat", "bargauge", "gauge"):
        if not all(target["instant"] and not target["range"] for target in panel["targets"]):
            yield f"panel {panel['title']} shows the last of a range, not what is now"
    for panel in of_type(board, "timeseries"):
        if {"last", "lastNotNull"} & set(panel["options"]["legend"]["calcs"]):
            yield f"panel {panel['title']} has a last value in its legend, however old"


def unknown_in_grey(board: Board) -> Iterator[str]:
    """No value is grey, and green is what was compared: "No backup was ever made" stood there in huge green."""
    for panel in of_type(board, "stat", "bargauge", "gauge"):
        config = defaults(panel)
        if meanings(config.get("mappings", [])).get("null+nan", ("", ""))[1] != "gray":
            yield f"panel {panel['title']} does not show in grey that it has no value"
        colour = config["color"]
        compared = colour["mode"] == "thresholds" and len(config.get("thresholds", {}).get("steps", [])) > 1
        if not compared and not (colour["mode"] == "fixed" and colour.get("fixedColor") in NEUTRAL):
            yield f"panel {panel['title']} has a colour that says good without a comparison"
    for panel in of_type(board, "stat"):
        aged = overridden(panel, AGE)
        if any(target["legendFormat"] == AGE for target in panel["targets"]) and not (
            aged.get("unit") == "s" and aged.get("color", {}).get("fixedColor") == "gray"
        ):
            yield f"panel {panel['title']} does not show in grey how old its numbers are"


def idle_is_no_value(board: Board) -> Iterator[str]:
    """Nothing divided by a floor is 0: an idle minute was 0 % success."""
    for panel in metric_panels(board):
        if any(re.search(r"/\s*clamp_min\(", target["expr"]) for target in panel["targets"]):
            yield f"panel {panel['title']} divides by a floor"


def counts_in_heat_maps(board: Board) -> Iterator[str]:
    """The colour of a cell is a count: its scale stood in the unit of the axis, from 22 ms to 289 ms."""
    for panel in of_type(board, "heatmap"):
        cells = panel["options"].get("cellValues", {}).get("unit")
        if not {cells, defaults(panel)["unit"]} <= COUNTS or panel["options"]["yAxis"]["unit"] in COUNTS:
            yield f"panel {panel['title']} has no unit of counts for its colours"


def soft_axes(board: Board) -> Iterator[str]:
    """A flat zero has an axis of its size: Grafana gives it 10 000 %, $100 or 100 a second."""
    most = {"percentunit": 1, "percent": 100, "currencyUSD": 1}
    for panel in of_type(board, "timeseries"):
        config = defaults(panel)
        highest = max(step["value"] or 0 for step in config.get("thresholds", {"steps": [{"value": 0}]})["steps"])
        reach = config.get("max", config.get("custom", {}).get("axisSoftMax"))
        if reach is None or reach > max(most.get(config["unit"], reach), 2 * highest):
            yield f"panel {panel['title']} has an axis that a flat zero makes absurd"
        if config.get("min") is None and config.get("custom", {}).get("axisSoftMin") is None:
            yield f"panel {panel['title']} has no lower end of its axis"


def rates_a_minute(board: Board) -> Iterator[str]:
    """What happens some times a minute is counted a minute: 0.0222 a second has to be converted to be read."""
    for panel in of_type(board, "timeseries", "stat", "heatmap"):
        unit = defaults(panel)["unit"]
        if unit in PER_SECOND and panel["title"] not in FAST:
            yield f"panel {panel['title']} counts a second"
        scaled = [target["expr"] for target in panel["targets"] if target["legendFormat"] not in NOT_ALWAYS]
        if unit in PER_MINUTE and not all("60 *" in expression for expression in scaled):
            yield f"panel {panel['title']} says minutes and counts seconds"


def limits_in_sight(board: Board) -> Iterator[str]:
    """The memory limit is drawn near what is used: a machine's 24 GiB flattened the curve."""
    for panel in of_type(board, "timeseries"):
        for target in panel["targets"]:
            if "memory_limit_bytes" in target["expr"] and not re.search(r"< \d+ \* max\(", target["expr"]):
                yield f"panel {panel['title']} draws a limit far out of sight"


def worst_first(board: Board) -> Iterator[str]:
    """The legend begins with the highest, and leaves out zeros: 39 of them stood above the one that failed."""
    for panel in of_type(board, "timeseries"):
        legend = panel["options"]["legend"]
        if (legend["displayMode"], legend.get("sortBy"), legend.get("sortDesc")) != ("table", "Max", True):
            yield f"panel {panel['title']} does not begin with the highest"
        if panel["gridPos"]["w"] <= 6 and len(legend["calcs"]) > 1:
            yield f"panel {panel['title']} is too narrow for two values beside its names"
        by_label = [target["expr"] for target in panel["targets"] if "{{" in target["legendFormat"]]
        counted = defaults(panel)["unit"] in PER_MINUTE and panel["title"] not in EACH_SERIES
        if counted and not all(WHERE_COUNTED.search(one) for one in by_label):
            yield f"panel {panel['title']} shows series that counted nothing"


def names_of_their_own(board: Board) -> Iterator[str]:
    """Each series has a name: an automatic one can be `Value`."""
    for panel in metric_panels(board):
        if panel["type"] != "table" and any(target["legendFormat"] == "__auto" for target in panel["targets"]):
            yield f"panel {panel['title']} has a series without a name"


def columns_that_fit(board: Board) -> Iterator[str]:
    """Columns have widths that fit 1600 px, and a word for an empty cell: routes were cut, others fell off the edge."""
    for panel in of_type(board, "table"):
        [organized] = [one["options"] for one in panel["transformations"] if one["id"] == "organize"]
        named = {name: column for column, name in organized["renameByName"].items()}
        widths = {name: overridden(panel, name).get("custom.width") for name in named}
        free = [name for name, width in widths.items() if width is None]
        if not all(overridden(panel, name).get("noValue") for name in named):
            yield f"panel {panel['title']} says of an empty cell what holds for an empty table"
        if len(free) != 1 or named[free[0]] not in LONGEST:
            yield f"panel {panel['title']} does not say which one column takes the room that is left"
            continue
        room = PIXELS / 24 * panel["gridPos"]["w"] - PADDING - sum(width or 0 for width in widths.values())
        if room < LONGEST[named[free[0]]] * CHARACTER + PADDING:
            yield f"panel {panel['title']} cuts its column {free[0]}"


def firing_alerts(board: Board) -> Iterator[str]:
    """Critical alerts come first, in colour, all of them: four rows in grey were below each other in any order."""
    for panel in of_type(board, "table"):
        if "ALERTS" not in panel["targets"][0]["expr"]:
            continue
        severity = overridden(panel, "Severity")
        said = meanings(severity.get("mappings", []))
        if {value: colour for value, (_, colour) in said.items()} != {"critical": "red", "warning": "orange"}:
            yield f"panel {panel['title']} does not colour severities"
        if severity.get("custom.cellOptions", {}).get("type") != "color-background":
            yield f"panel {panel['title']} does not show the colour of severities"
        if [(one["displayName"], one["desc"]) for one in panel["options"].get("sortBy", [])] != [("Severity", False)]:
            yield f"panel {panel['title']} does not begin with critical alerts"
        if panel["gridPos"]["h"] < 12 or panel["options"].get("enablePagination") or "topk" in str(panel["targets"]):
            yield f"panel {panel['title']} has no room for all that fires at once"


def down_or_not_scraped(board: Board) -> Iterator[str]:
    """What gives no numbers may be down: "is not scraped here" stood there while it was scraped, and down."""
    for panel in metric_panels(board):
        text = defaults(panel).get("noValue", "")
        if "scraped" in text and "down" not in text:
            yield f"panel {panel['title']} says that it knows why it has no data"


def one_scale(board: Board) -> Iterator[str]:
    """Bars beside each other count the same things: features were longer than the requests that they came from."""
    for panel in of_type(board, "bargauge"):
        of_features = {
            bool(re.search(r"\bfeatures?_(quality|rejected)", target["expr"])) for target in panel["targets"]
        }
        if len(of_features) > 1:
            yield f"panel {panel['title']} has requests and features on one scale"


LOOK_RULES: tuple[Rule, ...] = (
    states_in_words,
    quiet_annotations,
    numbers_of_now,
    unknown_in_grey,
    idle_is_no_value,
    counts_in_heat_maps,
    soft_axes,
    rates_a_minute,
    limits_in_sight,
    worst_first,
    names_of_their_own,
    columns_that_fit,
    firing_alerts,
    down_or_not_scraped,
    one_scale,
)
