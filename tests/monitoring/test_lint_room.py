"""What has room on the boards and what empty panels say: the rules hold, and each fails on a panel as it was before."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from observability.source.dashboards import names
from tests.monitoring import lint_room
from tests.monitoring.boards import boards, panels
from tests.monitoring.lint import Rule
from tests.monitoring.lint_look import defaults
from tests.monitoring.lint_room import ROOM_RULES

BOARDS = {board["uid"]: board for board in boards()}
Break = tuple[Rule, str, str, Callable[[dict[str, Any]], Any]]
"""A rule, a board, one of its panels, and what makes that as it was."""


def _empty(text: str) -> Callable[[dict[str, Any]], None]:
    return lambda panel: defaults(panel).update(noValue=text)


def _legend(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda panel: panel["targets"][0].update(legendFormat=name)


def _custom(**settings: object) -> Callable[[dict[str, Any]], None]:
    return lambda panel: defaults(panel)["custom"].update(settings)


def _size(**sizes: int) -> Callable[[dict[str, Any]], None]:
    return lambda panel: panel["options"].update(text=sizes)


def _reversed(panel: dict[str, Any]) -> None:
    for state in defaults(panel)["mappings"][0]["options"].values():
        state["index"] = -state["index"]


BREAKS: tuple[Break, ...] = (
    (
        lint_room.bars_named_in_full,
        names.EXTRACTIONS,
        "Features",
        lambda panel: panel["options"].update(namePlacement="left"),
    ),
    (lint_room.values_of_one_size, names.OVERVIEW, "API processes", lambda panel: panel["options"].pop("text")),
    (
        lint_room.values_of_one_size,
        names.SATURATION,
        "Age of the last backup",
        _size(titleSize=14, valueSize=60),
    ),
    (lint_room.values_of_one_size, names.OVERVIEW, "Worst alert", lambda panel: panel["gridPos"].update(w=5)),
    (lint_room.legends_in_sight, names.OVERVIEW, "Burn rate", lambda panel: panel["gridPos"].update(h=6)),
    (lint_room.legends_in_sight, names.SATURATION, "Work in hand", _legend("{{instance}} extractions {{job}}")),
    (lint_room.legends_in_sight, names.SATURATION, "Pool in use", _legend("{{job}} {{instance}}")),
    (lint_room.gaps_stay_gaps, names.OVERVIEW, "Requests by status", _custom(insertNulls=60000)),
    (lint_room.gaps_stay_gaps, names.OVERVIEW, "Duration", _custom(spanNulls=True)),
    (lint_room.good_state_first, names.OVERVIEW, "Dependencies", _reversed),
    (
        lint_room.unknown_is_not_none,
        names.TELEMETRY,
        "Lost log lines",
        _empty("No log line was lost in this time range"),
    ),
    (
        lint_room.cost_where_a_price_is_known,
        names.MODEL,
        "Cost an hour",
        lambda panel: panel["targets"][0].update(expr="sum by (model) (rate(model_cost_usd_total[1m]))"),
    ),
)


@pytest.mark.parametrize("rule", ROOM_RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("uid", sorted(BOARDS))
def test_the_rules_hold(uid: str, rule: Rule) -> None:
    """Each board keeps each rule about room and empty panels."""
    assert list(rule(BOARDS[uid])) == []


@pytest.mark.parametrize(("rule", "uid", "title", "broken"), BREAKS, ids=lambda one: getattr(one, "__name__", None))
def test_each_rule_fails_on_what_misled(
    rule: Rule, uid: str, title: str, broken: Callable[[dict[str, Any]], Any]
) -> None:
    """A board with one panel as it was before breaks the rule that was made for it."""
    board = copy.deepcopy(BOARDS[uid])
    broken(next(panel for panel in panels(board) if panel["title"] == title))
    assert list(rule(board)) != []


def test_every_rule_can_fail() -> None:
    """There is no rule that nothing breaks."""
    assert {rule for rule, *_ in BREAKS} == set(ROOM_RULES)
