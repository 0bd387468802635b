from __future__ import annotations

import json
from typing import Any

import pytest

from tests.monitoring.tools import OBSERVABILITY
from tools.gameday.dashboards import Series
from tools.gameday.fault import ExpectedPanel
from tools.gameday.faults import FAULTS
from tools.gameday.panel_colours import Ask, colours_of, panel_of, possible_colours, shown
from tools.gameday.receiver import Message, count_pages

OVERVIEW = json.loads((OBSERVABILITY / "grafana/dashboards/feature-agent-overview.json").read_text())
STEPS = {"steps": [{"color": "green", "value": None}, {"color": "orange", "value": 0.05}, {"color": "red", "value": 1}]}
WORDS = [
    {"type": "value", "options": {"0": {"text": "away", "color": "red"}, "1": {"text": "up", "color": "green"}}},
    {"type": "range", "options": {"from": 0.1, "to": 0.9, "result": {"text": "some", "color": "orange"}}},
    {"type": "special", "options": {"match": "null+nan", "result": {"color": "gray"}}},
]


def asked(now: Series, course: Series | None = None) -> Ask:
    """Prometheus with these series now, and those at the end of a time range."""
    return lambda _expression, ranged: course if ranged and course is not None else now


def panel(kind: str = "stat", legend: str = "{{a}}", *, instant: bool = True, **defaults: Any) -> dict[str, Any]:
    """A panel of one query."""
    target = {"expr": "x[$__rate_interval]", "refId": "A", "legendFormat": legend, "instant": instant}
    config = {"defaults": {"noValue": "nothing", **defaults}, "overrides": list[Any]()}
    return {"type": kind, "title": "t", "targets": [target], "options": {"colorMode": "value"}, "fieldConfig": config}


def only(found: list[Any]) -> tuple[set[str], set[str]]:
    """The texts and colours of the one thing that is shown."""
    [one] = found
    return set(one.texts), set(one.colours)


@pytest.mark.parametrize(
    ("value", "text", "colour"),
    [(0.0, "away", "red"), (1.0, "up", "green"), (0.5, "some", "orange"), (7.0, "7", "blue")],
)
def test_value_mappings_give_words_and_colours(value: float, text: str, colour: str) -> None:
    """Single values, ranges, and what no mapping is about, which has the panel's own colour."""
    one = panel(mappings=WORDS, color={"mode": "fixed", "fixedColor": "blue"})
    assert only(shown(one, asked([({"a": "b"}, value)]))) == ({"b", text}, {colour})


@pytest.mark.parametrize(("value", "colour"), [(-1.0, "green"), (0.05, "orange"), (0.99, "orange"), (3.0, "red")])
def test_thresholds_colour_from_their_value_on(value: float, colour: str) -> None:
    """A step counts from its value on, the first one below all others."""
    one = panel(thresholds=STEPS, color={"mode": "thresholds"})
    assert only(shown(one, asked([({}, value)]))[:1])[1] == {colour}


def test_nothing_has_its_word_and_colour() -> None:
    """Without a series stands the panel's word: in the colour for no value, or as the lowest step, which lies."""
    assert only(shown(panel(mappings=WORDS), asked([]))) == ({"nothing"}, {"gray"})
    assert only(shown(panel(thresholds=STEPS, color={"mode": "thresholds"}), asked([]))) == ({"nothing"}, {"green"})


def test_an_old_number_is_seen_where_a_range_is_asked() -> None:
    """A number of a range query shows the last sample of a series that has ended; one of an instant query does not."""
    old: Series = [({"a": "b"}, 1.0)]
    assert only(shown(panel(mappings=WORDS, instant=False), asked([], old))) == ({"b", "up"}, {"green"})
    assert only(shown(panel(mappings=WORDS), asked([], old))) == ({"nothing"}, {"gray"})


def test_a_line_is_as_the_threshold_that_it_crossed() -> None:
    """Dashed thresholds say what a line means; without them it has the colour that an override gives it, or none."""
    dashed = {"thresholdsStyle": {"mode": "dashed"}}
    line = panel("timeseries", thresholds=STEPS, custom=dashed)
    assert only(shown(line, asked([({"a": "b"}, 0.5)]))) == ({"b", "0.5"}, {"orange"})
    plain = panel("timeseries", thresholds=STEPS)
    assert only(shown(plain, asked([({"a": "b"}, 0.5)])))[1] == set()
    fixed = {"id": "color", "value": {"mode": "fixed", "fixedColor": "red"}}
    plain["fieldConfig"]["overrides"] = [{"matcher": {"id": "byRegexp", "options": "b|c"}, "properties": [fixed]}]
    assert only(shown(plain, asked([({"a": "b"}, 0.5)])))[1] == {"red"}


def test_only_coloured_cells_colour_a_row() -> None:
    """Of a table the rows of all queries are joined by their labels; a mapped cell counts where it is painted."""
    severity = {"id": "mappings", "value": [{"type": "value", "options": {"critical": {"color": "red"}}}]}
    painted = {"id": "custom.cellOptions", "value": {"type": "color-background"}}
    table = panel("table", "__auto") | {
        "transformations": [{"id": "organize", "options": {"renameByName": {"s": "Severity", "Value": "Firing"}}}]
    }
    override = {"matcher": {"id": "byName", "options": "Severity"}, "properties": [severity, painted]}
    table["fieldConfig"]["overrides"] = [override]
    ask = asked([({"s": "critical"}, 2.0)])
    assert only(shown(table, ask)) == ({"critical", "2"}, {"red"})
    override["properties"] = [severity]
    assert only(shown(table, ask))[1] == set()


@pytest.mark.parametrize(
    "shows", [pytest.param(each, id=f"{one.name}-{each.panel}") for one in FAULTS for each in one.panels]
)
def test_faults_name_panels_that_can_show_them(shows: ExpectedPanel) -> None:
    """Each panel is on the overview, has that colour to give, and a fault is seen within a minute."""
    assert shows.colour in possible_colours(panel_of(OVERVIEW, shows.panel))
    assert shows.within <= 60


def test_every_fault_is_seen_in_the_first_row() -> None:
    """Of each fault the overview's first row, or the row below it that it leads to, names an alert or a state."""
    first = {"API processes", "Worker processes", "Worst alert", "Dependencies now", "Alerts firing"}
    assert all(first & {each.panel for each in fault.panels} for fault in FAULTS)


@pytest.mark.parametrize(
    ("up", "text", "colour"), [(1.0, "up", "green"), (0.5, "partly up", "orange"), (0.0, "down", "red")]
)
def test_a_dead_api_is_red_on_the_overview(up: float, text: str, colour: str) -> None:
    """The first panel is green while the API is there and red without it, whatever was there before."""

    def ask(expression: str, _ranged: bool) -> Series:  # noqa: FBT001 -- as a panel asks
        return [({}, up)] if expression.startswith("avg(") else []

    assert colour in colours_of(shown(panel_of(OVERVIEW, "API processes"), ask), text)


def test_a_panel_that_is_not_there_is_named() -> None:
    """A title that the overview does not have is an error, not a fault that nobody sees."""
    with pytest.raises(LookupError, match="no panel 'Mood'"):
        panel_of(OVERVIEW, "Mood")


def test_pages_are_counted_once_an_outage() -> None:
    """A group rings when it begins to fire; more of the same does not, its return after the end does."""
    at = iter(range(100))

    def sent(group: str, status: str, receiver: str = "pager") -> Message:
        return Message(receiver, group, status, next(at))

    first = [sent("a", "firing"), sent("a", "firing"), sent("b", "firing", "chat"), sent("a", "resolved")]
    assert count_pages(first, 0) == 1
    assert count_pages([*first, sent("a", "firing"), sent("c", "firing")], 0) == 3
    assert count_pages(first, 50) == 0
