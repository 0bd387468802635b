"""A board: its rows laid out on the grid, its variables, its annotations, and its way to the other boards."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from observability.source.dashboards.names import SERVICE
from observability.source.dashboards.panels import DATASOURCE

COLUMNS = 24
ROW_HEIGHT = 1


@dataclass(frozen=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: Sequence[model.Panel]
    collapsed: bool = False
    repeat: str | None = None
    """A variable: there is a row for each of its chosen values, and in it the variable has that value."""


@dataclass(frozen=True)
class Board:
    """One dashboard."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row]
    variables: Sequence[model.VariableModel] = ()
    """Beside data source, job and instance."""
    tags: Sequence[str] = field(default_factory=tuple)
    since: str = "1h"
    """The time range that it opens with."""


def variable(name: str, label: str, query: str, *, several: bool = True, first: str = "") -> model.VariableModel:
    """A variable whose values are a label's; with several, all are chosen at first, or that one."""
    built = dashboard.QueryVariable(name).label(label).datasource(DATASOURCE).query(query).definition(query)
    built = built.refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(model.VariableSort.ALPHABETICAL_ASC)
    if several:
        text, value = (first, first) if first else ("All", "$__all")
        chosen = model.VariableOption(selected=True, text=[text], value=[value])
        built = built.multi(True).include_all(True).all_value(".+").current(chosen)
    return built.build()


def textbox(name: str, label: str) -> model.VariableModel:
    """A variable that is typed in, empty at first."""
    return dashboard.TextBoxVariable(name).label(label).default_value("").build()


def rendered(board: Board) -> str:
    """The board as Grafana's JSON."""
    built = dashboard.Dashboard(board.title).uid(board.uid).description(board.description)
    built = (
        built.tags([SERVICE, *board.tags])
        .readonly()
        .timezone("browser")
        .refresh("30s")
        .time(f"now-{board.since}", "now")
    )
    built = built.tooltip(model.DashboardCursorSync.CROSSHAIR).link(_other_boards())
    for one in (*_scope(), *board.variables):
        built.build().templating.list_val = [*(built.build().templating.list_val or []), one]
    result = built.build()
    result.annotations.list_val = [one.build() for one in _annotations()]
    result.panels = list(_laid_out(board.rows))
    document = json.loads(JSONEncoder(sort_keys=True).encode(result))
    return json.dumps(_tidy(document), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _scope() -> Iterator[model.VariableModel]:
    """Which Prometheus, and which of the service's jobs and processes."""
    source = dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
    yield source.current(model.VariableOption(selected=True, text="Prometheus", value="prometheus")).build()
    yield variable("job", "Job", "label_values(application_info, job)")
    yield variable("instance", "Instance", 'label_values(application_info{job=~"$job"}, instance)')


def _annotations() -> Iterator[dashboard.AnnotationQuery]:
    """When a version came, and when a critical alert began and ended.

    Moments only: a region for as long as an alert fires would cover the plots that it is about. `$__interval` is the
    step, so that each moment is in one step of whatever range is shown.
    """
    by = "count by (version, environment)"
    known = f"{by} (last_over_time(application_info[1h] offset $__interval))"
    yield (
        _annotation("Deployments", "blue", f"{by} (application_info) unless {known}")
        .title_format("Version {{version}}")
        .text_format("First seen for an hour in {{environment}}")
        .tag_keys("environment")
    )
    firing = 'ALERTS{alertstate="firing",severity="critical"}'
    before = f"{firing} offset $__interval"
    yield (
        _annotation("Critical alerts", "red", f"{firing} unless {before} or {before} unless {firing}")
        .title_format("{{alertname}} began or ended")
        .text_format("{{severity}}, {{service}} {{slo}}")
        .tag_keys("severity")
    )


def _annotation(name: str, colour: str, expression: str) -> dashboard.AnnotationQuery:
    built = dashboard.AnnotationQuery().name(name).datasource(DATASOURCE).enable(True).hide(False)
    return built.icon_color(colour).expr(expression).step("60s").use_value_for_time(False)


def _other_boards() -> dashboard.DashboardLink:
    link = dashboard.DashboardLink("Boards").type(model.DashboardLinkType.DASHBOARDS).tags([SERVICE])
    return link.as_dropdown(True).include_vars(True).keep_time(True).icon("external link").target_blank(False)


def panel_ids(board: Board) -> dict[str, int]:
    """The id of each panel by its title, which is the panel's own on its board."""
    return {str(one.title): one.id_val or 0 for one in _numbered(board.rows)}


def _numbered(rows: Sequence[Row]) -> Iterator[model.Panel]:
    """Panels in reading order with their ids; each row's heading takes one too."""
    at = 0
    for row in rows:
        at += 1
        for panel in row.panels:
            at += 1
            panel.id_val = at
            yield panel


def _laid_out(rows: Sequence[Row]) -> Iterator[model.Panel | model.RowPanel]:
    """Rows below each other; a collapsed row keeps its panels inside."""
    top = 0
    list(_numbered(rows))
    for row in rows:
        heading = model.RowPanel(
            id_val=(row.panels[0].id_val or 0) - 1,
            title=row.title,
            collapsed=row.collapsed,
            panels=[],
            repeat=row.repeat,
        )
        heading.grid_pos = model.GridPos(x=0, y=top, w=COLUMNS, h=ROW_HEIGHT)
        bottom = _place(row.panels, top + ROW_HEIGHT)
        yield heading
        if row.collapsed:
            heading.panels = list(row.panels)
            top += ROW_HEIGHT
        else:
            yield from row.panels
            top = bottom


def _place(panels: Sequence[model.Panel], top: int) -> int:
    """Left to right, then below; gives the first line beneath them all."""
    left, bottom = 0, top
    for panel in panels:
        place = panel.grid_pos or model.GridPos()
        if left + place.w > COLUMNS:
            left, top = 0, bottom
        place.x, place.y = left, top
        left += place.w
        bottom = max(bottom, top + place.h)
    return bottom


def _tidy(document: dict[str, Any]) -> dict[str, Any]:
    """Without the SDK's defaults that Grafana would take at their word: links and annotations hidden in a menu."""
    for part in (document["links"], document["annotations"]["list"]):
        for one in part:
            one.pop("placement", None)
    for one in document["templating"]["list"]:
        for name in ("auto", "auto_count", "auto_min"):
            one.pop(name, None)
    return document
