"""Evaluate what a panel shows and in which colours, from its queries, value mappings, thresholds and overrides.

It implements the options of Grafana that these dashboards use: of a series the newest value is shown, of a table each
row with all its cells.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tools.gameday.dashboards import Series, filled, panels

Ask = Callable[[str, bool], Series]
"""Returns the series of an expression now, or (True) in the time range of the dashboard with their last values."""
Value = float | str | None
_BY_LABEL = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_COLOURED_CELLS = {"color-text", "color-background"}


@dataclass(frozen=True)
class DisplayedValue:
    """A series, or a row of a table, as displayed."""

    texts: frozenset[str]
    """The name of the series and its value or the text mapped to it; of a row every cell."""
    colours: frozenset[str]


def panel_of(board: Mapping[str, Any], title: str) -> dict[str, Any]:
    """Find the panel with that title. Raises LookupError."""
    found = next((panel for panel in panels(dict(board)) if panel["title"] == title), None)
    if found is None:
        raise LookupError(f"{board['uid']} has no panel {title!r}")
    return found


def shown(
    panel: Mapping[str, Any], ask: Ask, *, rate_interval: str = "1m", time_range: str = "1h"
) -> list[DisplayedValue]:
    """Evaluate everything that the panel shows now."""
    asked = [
        (target, _answered(panel, target, ask, rate_interval=rate_interval, time_range=time_range))
        for target in panel["targets"]
    ]
    if panel["type"] == "table":
        return list(_rows(panel, asked))
    found = [_series(panel, target, labels, value) for target, series in asked for labels, value in series]
    return found or [_nothing(panel)]


def colours_of(found: Sequence[DisplayedValue], text: str) -> frozenset[str]:
    """Return the colours of the series and rows that contain the text."""
    return frozenset(colour for one in found if text in one.texts for colour in one.colours)


def possible_colours(panel: Mapping[str, Any]) -> frozenset[str]:
    """Return every colour in the panel's options."""
    return frozenset(_colours_within(panel["fieldConfig"]))


def _answered(
    panel: Mapping[str, Any], target: Mapping[str, Any], ask: Ask, *, rate_interval: str, time_range: str
) -> Series:
    """Query a target: a number panel shows the last value in the range, however old; a line ends with its series."""
    expression = target["expr"].replace("$__rate_interval", rate_interval).replace("$__range", time_range)
    return ask(filled(expression), panel["type"] in {"stat", "gauge"} and not target["instant"])


def _series(
    panel: Mapping[str, Any], target: Mapping[str, Any], labels: Mapping[str, str], value: float
) -> DisplayedValue:
    name = _name(target["legendFormat"], labels)
    text, colour = _displayed(panel, name, target["refId"], value)
    return DisplayedValue(frozenset({name, text}), frozenset({colour} - {""}))


def _nothing(panel: Mapping[str, Any]) -> DisplayedValue:
    """Return the text for no series, in the colour of no value."""
    _, colour = _displayed(panel, "", "", None)
    return DisplayedValue(frozenset({panel["fieldConfig"]["defaults"].get("noValue", "")}), frozenset({colour} - {""}))


def _name(legend: str, labels: Mapping[str, str]) -> str:
    if legend == "__auto":
        return ", ".join(f"{name}={value}" for name, value in sorted(labels.items())) or "Value"
    return _BY_LABEL.sub(lambda found: labels.get(found[1], ""), legend)


def _rows(panel: Mapping[str, Any], asked: Sequence[tuple[Mapping[str, Any], Series]]) -> Iterator[DisplayedValue]:
    """Merge the rows of all targets with the same labels, and rename the columns."""
    rows: dict[tuple[tuple[str, str], ...], dict[str, Value]] = {}
    for target, series in asked:
        column = "Value" if len(asked) == 1 else f"Value #{target['refId']}"
        for labels, value in series:
            rows.setdefault(tuple(sorted(labels.items())), {**labels})[column] = value
    renamed = _columns(panel)
    for row in rows.values():
        cells = [_displayed(panel, name, "", row.get(field)) for field, name in renamed.items()]
        yield DisplayedValue(frozenset(text for text, _ in cells), frozenset(colour for _, colour in cells if colour))


def _columns(panel: Mapping[str, Any]) -> Mapping[str, str]:
    for one in panel["transformations"]:
        if one["id"] == "organize":
            return one["options"]["renameByName"]
    raise LookupError(f"{panel['title']} does not say which columns it has")


def _displayed(panel: Mapping[str, Any], name: str, reference: str, value: Value) -> tuple[str, str]:
    """Return the text of a value and its colour, which is empty where the panel does not colour it."""
    options = _options(panel, name, reference)
    text, colour = _mapped(options.get("mappings") or (), value)
    if text is None:
        text = f"{value:g}" if isinstance(value, float | int) else (value or options.get("noValue", ""))
    colour = colour or _colour(panel["type"], options, value)
    return str(text), colour if _coloured(panel, options) else ""


def _options(panel: Mapping[str, Any], name: str, reference: str) -> dict[str, Any]:
    """Return the options of a field: the panel's, replaced by those of matching overrides."""
    config = panel["fieldConfig"]
    options = dict(config["defaults"])
    for one in config["overrides"]:
        if _matches(one["matcher"], name, reference):
            options |= {each["id"]: each["value"] for each in one["properties"]}
    return options


def _matches(matcher: Mapping[str, Any], name: str, reference: str) -> bool:
    kind, wanted = matcher["id"], matcher["options"]
    if kind == "byName":
        return name == wanted
    if kind == "byRegexp":
        return re.search(wanted.strip("/"), name) is not None
    if kind == "byFrameRefID":
        return reference == wanted
    raise ValueError(f"overrides by {kind} are not read: add them here before a board uses them")


def _mapped(mappings: Sequence[Mapping[str, Any]], value: Value) -> tuple[str | None, str]:
    for mapping in mappings:
        result = _result(mapping, value)
        if result is not None:
            return result.get("text"), result.get("color", "")
    return None, ""


def _result(mapping: Mapping[str, Any], value: Value) -> Mapping[str, Any] | None:
    """Return the mapping's result for the value; None when it does not apply."""
    kind, options = mapping["type"], mapping["options"]
    if kind == "value":
        return options.get(f"{value:g}" if isinstance(value, float | int) else value)
    number = isinstance(value, float | int) and not math.isnan(value)
    if kind == "range":
        low, high = (options.get(end) for end in ("from", "to"))
        inside = number and (low is None or low <= value) and (high is None or value <= high)  # type: ignore[operator]
        return options["result"] if inside else None
    if kind == "special":
        of = {"null": value is None, "nan": isinstance(value, float) and math.isnan(value)}
        return options["result"] if any(of[one] for one in options["match"].split("+")) else None
    raise ValueError(f"mappings of {kind} are not read: add them here before a board uses them")


def _colour(kind: str, options: Mapping[str, Any], value: Value) -> str:
    """Return the colour by thresholds, or the fixed one; a line takes that of the threshold it has crossed."""
    dashed = kind == "timeseries" and options.get("custom", {}).get("thresholdsStyle", {}).get("mode", "off") != "off"
    fixed: dict[str, str] = options.get("color") or {}
    if dashed or kind == "table" or fixed.get("mode") == "thresholds":
        return _step(options.get("thresholds", {}).get("steps", ()), value)
    return fixed.get("fixedColor", "")


def _step(steps: Sequence[Mapping[str, Any]], value: Value) -> str:
    """Return the colour of the last threshold that the value has reached; the first one without a value."""
    number = value if isinstance(value, float | int) else -math.inf
    reached = [step["color"] for step in steps if step["value"] is None or step["value"] <= number]
    return reached[-1] if reached else ""


def _coloured(panel: Mapping[str, Any], options: Mapping[str, Any]) -> bool:
    if panel["type"] == "table":
        return options.get("custom.cellOptions", {}).get("type") in _COLOURED_CELLS
    return panel["options"].get("colorMode") != "none"


def _colours_within(part: Any) -> Iterator[str]:
    if isinstance(part, list):
        yield from (colour for one in part for colour in _colours_within(one))  # pyright: ignore[reportUnknownVariableType]
    elif isinstance(part, dict):
        for name, one in part.items():  # pyright: ignore[reportUnknownVariableType]
            if name in {"color", "fixedColor"} and isinstance(one, str):
                yield one
            else:
                yield from _colours_within(one)
