"""What the boards show at first sight: the rules hold, and each fails on a board as it was before the rule."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from observability.source.dashboards import names
from service.telemetry.catalog import METRICS
from tests.monitoring import lint_look
from tests.monitoring.boards import boards, panels
from tests.monitoring.lint import Board, Rule
from tests.monitoring.lint_look import LOOK_RULES, defaults, meanings, overridden
from tests.monitoring.tools import alerts

BOARDS = {board["uid"]: board for board in boards()}
Break = tuple[Rule, str, str, Callable[[dict[str, Any]], Any]]
"""A rule, a board, one of its panels (none: the board itself), and what makes it as it was."""


@pytest.mark.parametrize("rule", LOOK_RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("uid", sorted(BOARDS))
def test_the_rules_hold(uid: str, rule: Rule) -> None:
    """Each board keeps each rule about what it shows at first sight."""
    assert list(rule(BOARDS[uid])) == []


def panel_of(board: Board, title: str) -> dict[str, Any]:
    """The board's panel of that title."""
    return next(panel for panel in panels(board) if panel["title"] == title)


def _thresholds(panel: dict[str, Any]) -> None:
    defaults(panel)["color"] = {"mode": "thresholds"}


def _range(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        target.update(instant=False, range=True)


def _asks(expression: str) -> Callable[[dict[str, Any]], None]:
    return lambda panel: panel["targets"][0].update(expr=expression)


def _unit(unit: str) -> Callable[[dict[str, Any]], None]:
    return lambda panel: defaults(panel).update(unit=unit)


def _legend(**settings: object) -> Callable[[dict[str, Any]], None]:
    return lambda panel: panel["options"]["legend"].update(settings)


def _without(*ids: str) -> Callable[[dict[str, Any]], None]:
    """The overrides of these kinds are gone."""

    def broken(panel: dict[str, Any]) -> None:
        for one in panel["fieldConfig"]["overrides"]:
            one["properties"] = [setting for setting in one["properties"] if setting["id"] not in ids]

    return broken


def _per_second(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        target["expr"] = target["expr"].replace("60 * ", "")


def _uncounted(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        target["expr"] = target["expr"].partition(" and ")[0]


def _features_too(panel: dict[str, Any]) -> None:
    scored = {"expr": "sum(increase(feature_quality_score_count[$__range]))", "legendFormat": "Features computed"}
    panel["targets"].append({**panel["targets"][0], **scored})


def _region(board: Board) -> None:
    board["annotations"]["list"][1]["expr"] = 'ALERTS{alertstate="firing",severity="critical"}'


def _warnings_too(board: Board) -> None:
    alerts = board["annotations"]["list"][1]
    alerts["expr"] = alerts["expr"].replace('severity="critical"', 'severity=~"critical|warning"')


MODEL, OVERVIEW, SATURATION = names.MODEL, names.OVERVIEW, names.SATURATION
BREAKS: tuple[Break, ...] = (
    (lint_look.states_in_words, MODEL, "Circuit breakers", _thresholds),
    (lint_look.states_in_words, OVERVIEW, "Dependencies", lambda panel: defaults(panel).pop("mappings")),
    (lint_look.states_in_words, OVERVIEW, "Dependencies", lambda panel: defaults(panel)["mappings"].pop()),
    (
        lint_look.states_in_words,
        names.TELEMETRY,
        "Targets",
        lambda panel: defaults(panel)["mappings"][0]["options"]["0"].pop("text"),
    ),
    (lint_look.quiet_annotations, OVERVIEW, "", _region),
    (lint_look.quiet_annotations, OVERVIEW, "", _warnings_too),
    (lint_look.numbers_of_now, OVERVIEW, "Requests", _range),
    (lint_look.numbers_of_now, OVERVIEW, "Duration", _legend(calcs=["lastNotNull", "max"])),
    (lint_look.unknown_in_grey, SATURATION, "Age of the last backup", lambda panel: defaults(panel)["mappings"].pop()),
    (lint_look.unknown_in_grey, OVERVIEW, "Requests", lambda p: defaults(p).update(color={"mode": "palette-classic"})),
    (lint_look.unknown_in_grey, names.SLO, "Objective", _thresholds),
    (lint_look.unknown_in_grey, OVERVIEW, "Answered 5xx", _without("color")),
    (lint_look.idle_is_no_value, names.EXTRACTIONS, "Not failed by us", _asks("1 - sum(a) / clamp_min(sum(b), 1e-9)")),
    (lint_look.counts_in_heat_maps, OVERVIEW, "Spread of durations", _unit("s")),
    (lint_look.counts_in_heat_maps, MODEL, "Spread of durations", lambda panel: panel["options"].pop("cellValues")),
    (lint_look.soft_axes, OVERVIEW, "5xx by route", lambda panel: defaults(panel)["custom"].pop("axisSoftMax")),
    (lint_look.soft_axes, MODEL, "Cost an hour", lambda panel: defaults(panel)["custom"].update(axisSoftMax=100)),
    (lint_look.rates_a_minute, MODEL, "Tokens a minute", _unit("cps")),
    (lint_look.rates_a_minute, names.EXTRACTIONS, "Webhooks", _per_second),
    (
        lint_look.limits_in_sight,
        OVERVIEW,
        "Memory",
        lambda panel: panel["targets"][1].update(expr='min(memory_limit_bytes{job=~"$job",instance=~"$instance"})'),
    ),
    (lint_look.worst_first, OVERVIEW, "Duration", _legend(sortBy="Last *")),
    (lint_look.worst_first, OVERVIEW, "CPU", _legend(calcs=["max", "mean"])),
    (lint_look.worst_first, names.TELEMETRY, "Failed rules", _uncounted),
    (lint_look.worst_first, MODEL, "Breaker transitions", _uncounted),
    (
        lint_look.names_of_their_own,
        MODEL,
        "Failed calls of the worst model",
        lambda panel: panel["targets"][0].update(legendFormat="__auto"),
    ),
    (lint_look.columns_that_fit, OVERVIEW, "Routes", _without("custom.width")),
    (lint_look.columns_that_fit, OVERVIEW, "Routes", lambda panel: panel["gridPos"].update(w=8)),
    (lint_look.columns_that_fit, OVERVIEW, "Alerts firing", _without("noValue")),
    (lint_look.firing_alerts, OVERVIEW, "Alerts firing", _without("mappings")),
    (lint_look.firing_alerts, OVERVIEW, "Alerts firing", _without("custom.cellOptions")),
    (lint_look.firing_alerts, names.SLO, "Alerts firing", lambda panel: panel["options"].update(sortBy=[])),
    (lint_look.firing_alerts, OVERVIEW, "Alerts firing", lambda panel: panel["gridPos"].update(h=6)),
    (
        lint_look.down_or_not_scraped,
        names.TELEMETRY,
        "Spans in Jaeger",
        lambda panel: defaults(panel).update(noValue="Jaeger is not scraped here"),
    ),
    (lint_look.one_scale, names.EXTRACTIONS, "Funnel of requests", _features_too),
)


@pytest.mark.parametrize(("rule", "uid", "title", "broken"), BREAKS, ids=lambda one: getattr(one, "__name__", None))
def test_each_rule_fails_on_what_misled(
    rule: Rule, uid: str, title: str, broken: Callable[[dict[str, Any]], Any]
) -> None:
    """A board with one panel as it was before breaks the rule that was made for it."""
    board = copy.deepcopy(BOARDS[uid])
    broken(panel_of(board, title) if title else board)
    assert list(rule(board)) != []


def test_every_rule_can_fail() -> None:
    """There is no rule that nothing breaks."""
    assert {rule for rule, *_ in BREAKS} == set(LOOK_RULES)


def test_the_first_row_says_whether_it_is_up() -> None:
    """The home board begins with API, workers, alerts and dependencies: red when bad, green when good, else grey."""
    first = list(panels(BOARDS[OVERVIEW]))[:5]
    titles = [panel["title"] for panel in first]
    assert titles == ["API processes", "Worker processes", "Worst alert", "Dependencies now", "Alerts firing"]
    for panel in first[:4]:
        said = meanings(defaults(panel)["mappings"])
        assert {colour for _, colour in said.values()} == {"red", "orange", "green", "gray"}, panel["title"]
        assert panel["options"]["colorMode"] == "background_solid"
    for panel, job in zip(first[:2], ("feature-agent", "feature-agent-worker"), strict=True):
        said = meanings(defaults(panel)["mappings"])
        assert (said["0"][1], said["1"][1]) == ("red", "green")
        asked = [target["expr"] for target in panel["targets"]]
        assert asked[1:3] == [f'sum(up{{job="{job}"}})', f'count(up{{job="{job}"}})']


def test_headlines_show_their_age() -> None:
    """Each number of the requests is there while the API answers, and the age of the last answer is there otherwise."""
    for title in ("Requests", "Answered 5xx", "Duration of an extraction request, p95", "In flight"):
        now, age = panel_of(BOARDS[OVERVIEW], title)["targets"]
        assert now["expr"].endswith('and max(up{job="feature-agent"}) == 1'), title
        assert age["expr"].endswith('unless max(up{job="feature-agent"}) == 1'), title


def test_a_backup_never_made_is_red() -> None:
    """The panel says so in red, of a timestamp of 0; without one it is grey."""
    panel = panel_of(BOARDS[SATURATION], "Age of the last backup")
    said = meanings(defaults(panel)["mappings"])
    assert said["-1"] == ("No backup was ever made: feature-agent backup URL", "red")
    assert panel["targets"][0]["expr"].endswith("== 0) - 1")
    assert "backup" not in defaults(panel)["noValue"]


def test_a_missed_objective_is_red() -> None:
    """The share of good events is green only at or above the objective."""
    panel = panel_of(BOARDS[names.SLO], "Good events, 30 days")
    colours = {name: overridden(panel, name)["color"]["fixedColor"] for name in ("kept", "missed")}
    assert colours == {"kept": "green", "missed": "red"}
    compared = {target["legendFormat"]: target["expr"] for target in panel["targets"]}
    assert ">= on (slo, service) slo:objective:ratio" in compared["kept"]
    assert "< on (slo, service) slo:objective:ratio" in compared["missed"]


def test_objectives_open_on_their_window() -> None:
    """The board of 30-day objectives opens on 30 days, and the budget's course always shows them."""
    board = BOARDS[names.SLO]
    assert board["time"] == {"from": "now-30d", "to": "now"}
    assert panel_of(board, "Error budget left")["timeFrom"] == "30d"


def test_workers_are_described_as_their_metric_is() -> None:
    """The panel counts lanes, as the metric does, not processes."""
    [metric] = [metric for metric in METRICS if metric.name == "extraction_workers"]
    panel = panel_of(BOARDS[names.EXTRACTIONS], "Workers")
    assert metric.help.startswith("Lanes")
    assert panel["description"].startswith("Lanes")
    assert [target["legendFormat"] for target in panel["targets"]] == ["lanes"]


def test_columns_have_room_for_the_longest_names() -> None:
    """The room that is reckoned with is that of the longest alert."""
    assert max(len(rule["alert"]) for rule in alerts()) <= lint_look.LONGEST["alertname"]
