"""All boards, and their files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from observability.source.dashboards import (
    extractions,
    load_test,
    model_cost,
    overview,
    saturation,
    slo_detail,
    telemetry_health,
)
from observability.source.dashboards.board import Board, rendered
from observability.source.slo import Objectives

FOLDER = "observability/grafana/dashboards"


def boards(objectives: Objectives) -> Iterator[Board]:
    """Every board, the home board first."""
    yield overview.board()
    yield extractions.board()
    yield model_cost.board()
    yield saturation.board()
    yield slo_detail.board(objectives)
    yield load_test.board()
    yield telemetry_health.board()


def render(objectives: Objectives) -> Mapping[str, str]:
    """Every dashboard's JSON by its path."""
    return {f"{FOLDER}/{board.uid}.json": rendered(board) for board in boards(objectives)}
