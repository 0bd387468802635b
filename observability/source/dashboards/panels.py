"""Panels as this bundle wants them: each has a title, a description, a unit, a legend, and words for "no data"."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from grafana_foundation_sdk.builders import bargauge, common, heatmap, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import common as look
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heat
from grafana_foundation_sdk.models import prometheus, units

from observability.source.dashboards.fields import (
    NEUTRAL,
    SOFT_MAX,
    UNKNOWN,
    Steps,
    Words,
    fixed,
    gap,
    mappings,
    override,
    thresholds,
    unknown,
)
from observability.source.dashboards.links import Link

REFERENCES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
IDLE = "Nothing happened in this time range"
"""What a panel says that has no series while the service is idle."""
NO_DATA_FOR = "no data for"
"""The name of the age of what a number panel shows, in seconds; it has a value only while that is out of date."""
NARROW = 6
"""A panel of this width has room for one value beside the names of its legend."""
NOTHING = "-"
"""An empty cell of a table."""
NAME_SIZE, VALUE_SIZE, WORD_SIZE = 14, 28, 24
"""In pixels: left alone, Grafana shrinks all values of a panel to what the longest has room for."""
DATASOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")


@dataclass(frozen=True)
class Query:
    """One target of a panel."""

    expression: str
    legend: str = "__auto"
    exemplars: bool = False


def percentiles(at: Callable[[float], str], *quantiles: float, of: str = "", exemplars: bool = True) -> list[Query]:
    """The expression at each quantile, named p50, p95 …; the highest brings the exemplars, if there are any."""
    return [
        Query(at(q), f"p{q * 100:.0f} {of}".strip(), exemplars=exemplars and q == max(quantiles)) for q in quantiles
    ]


@dataclass(frozen=True)
class Look:
    """What panels differ in beside their queries; sizes are in Grafana's grid of 24 columns."""

    unit: str = units.NoUnit
    width: int = 8
    height: int = 8
    thresholds: Steps | None = None
    base: str = "green"
    """The colour below all thresholds."""
    links: Sequence[Link] = ()
    empty: str = IDLE
    colours: Mapping[str, str] | None = None
    """Fixed colours of the series whose name matches the expression."""
    stacked: bool = False
    minimum: float | None = 0
    maximum: float | None = None
    decimals: int | None = None
    words: Words | None = None
    since: str | None = None
    """A time range of the panel's own: `30d`."""


def lines(title: str, description: str, queries: Sequence[Query], shown: Look) -> model.Panel:
    """Values over time, the highest first in the legend. It has no last value, which would hide that a series ended."""
    builder = timeseries.Panel().line_width(1).fill_opacity(25 if shown.stacked else 8)
    builder.show_points(look.VisibilityMode.AUTO).span_nulls(False)
    builder.axis_soft_min(0).axis_soft_max(SOFT_MAX.get(shown.unit, 1))
    builder.tooltip(common.VizTooltipOptions().mode(look.TooltipDisplayMode.MULTI).sort(look.SortOrder.DESCENDING))
    legend = common.VizLegendOptions().show_legend(True).display_mode(look.LegendDisplayMode.TABLE)
    legend.sort_by("Max").sort_desc(True)
    builder.legend(
        legend.placement(look.LegendPlacement.BOTTOM).calcs(["max"] if shown.width <= NARROW else ["max", "mean"])
    )
    if shown.stacked:
        builder.stacking(common.StackingConfig().mode(look.StackingMode.NORMAL).group("A"))
    if shown.thresholds:
        builder.thresholds_style(common.GraphThresholdsStyleConfig().mode(look.GraphThresholdsStyleMode.DASHED))
    return _finished(builder.build(), title, description, _targets(queries), shown)


def number(title: str, description: str, queries: Sequence[Query], shown: Look) -> model.Panel:
    """The value of each series now; grey where there is none, or with the age of what there was."""
    builder = stat.Panel().graph_mode(look.BigValueGraphMode.NONE).color_mode(look.BigValueColorMode.VALUE)
    return _numbers(builder.text(_text(VALUE_SIZE)), title, description, queries, shown)


def verdict(title: str, description: str, queries: Sequence[Query], shown: Look) -> model.Panel:
    """What the first query means, as a word on a colour; the other numbers stand beside it without one."""
    builder = stat.Panel().graph_mode(look.BigValueGraphMode.NONE)
    builder.color_mode(look.BigValueColorMode.BACKGROUND_SOLID)
    panel = _numbers(builder.text(_text(WORD_SIZE)), title, description, queries, shown)
    plain: dict[str, object] = {**fixed("transparent"), "mappings": []}
    others = [query.legend for query in queries[1:] if query.legend != NO_DATA_FOR]
    _configured(panel).overrides += [override("byName", name, plain) for name in others]
    return panel


def _numbers(builder: stat.Panel, title: str, description: str, queries: Sequence[Query], shown: Look) -> model.Panel:
    """Asked of one moment: of a range, the last sample would be shown however old it is."""
    builder.reduce_options(_last()).text_mode(_text_mode(queries)).wide_layout(False)
    panel = _finished(builder.build(), title, description, _targets(queries, instant=True), shown)
    if any(query.legend == NO_DATA_FOR for query in queries):
        aged: dict[str, object] = {**fixed(UNKNOWN), "unit": units.Seconds, "decimals": 0, "mappings": []}
        _configured(panel).overrides.append(override("byName", NO_DATA_FOR, aged))
    return panel


def bars(title: str, description: str, queries: Sequence[Query], shown: Look) -> model.Panel:
    """The value of each series now, as bars below each other, each with its name above: beside it names are cut."""
    builder = bargauge.Panel().orientation(look.VizOrientation.HORIZONTAL).reduce_options(_last())
    builder.display_mode(look.BarGaugeDisplayMode.BASIC).value_mode(look.BarGaugeValueMode.TEXT)
    builder.name_placement(look.BarGaugeNamePlacement.TOP).show_unfilled(True).text(_text(VALUE_SIZE))
    return _finished(builder.build(), title, description, _targets(queries, instant=True), shown)


def states(title: str, description: str, queries: Sequence[Query], shown: Look) -> model.Panel:
    """Which of a few states each series was in, over time: a word and a colour each.

    Equal values are merged. In the colour mode `thresholds` Grafana would merge by threshold, and forget the words.
    """
    builder = statetimeline.Panel().show_value(look.VisibilityMode.AUTO).merge_values(True).row_height(0.8)
    legend = common.VizLegendOptions().show_legend(True).display_mode(look.LegendDisplayMode.LIST)
    builder.legend(legend.placement(look.LegendPlacement.BOTTOM).calcs([])).fill_opacity(80)
    return _finished(builder.build(), title, description, _targets(queries), shown)


def spread(title: str, description: str, query: Query, shown: Look, *, counted: str) -> model.Panel:
    """How the observations of a histogram are spread, over time: how many (in the unit `counted`) were how large."""
    builder = heatmap.Panel().calculate(False).show_legend().cell_gap(1)
    builder.y_axis(heatmap.YAxisConfig().unit(shown.unit).axis_placement(look.AxisPlacement.LEFT))
    builder.cell_values(heatmap.CellValues().unit(counted))
    scheme = heatmap.HeatmapColorOptions().mode(heat.HeatmapColorMode.SCHEME).scheme("Oranges").steps(64)
    builder.color(scheme.fill("dark-orange").scale(heat.HeatmapColorScale.EXPONENTIAL).exponent(0.5))
    builder.tooltip(heatmap.HeatmapTooltip().mode(look.TooltipDisplayMode.SINGLE).y_histogram(True))
    builder.filter_values(heatmap.FilterValueRange().le(1e-9)).exemplars_color("rgba(255,0,255,0.8)")
    target = _target(query, "A")
    target.format_val = prometheus.PromQueryFormat.HEATMAP
    return _finished(builder.build(), title, description, [target], replace(shown, unit=counted))


@dataclass(frozen=True)
class Column:
    """A column of a table: a query for its values, or a label of them."""

    name: str
    query: str = ""
    label: str = ""
    unit: str = ""
    links: Sequence[Link] = ()
    thresholds: Steps | None = None
    words: Words | None = None
    width: int | None = None
    """In pixels; a column without it takes what the others leave."""


def rows(
    title: str, description: str, columns: Sequence[Column], shown: Look, *, highest: str = "", first: str = ""
) -> model.Panel:
    """A table with a row for each set of labels, those `highest` or `first` in that column on top."""
    queried = [column for column in columns if column.query]
    targets = [_target(Query(column.query), REFERENCES[at], instant=True) for at, column in enumerate(queried)]
    for target in targets:
        target.format_val = prometheus.PromQueryFormat.TABLE
    sources = {column.name: f"Value #{REFERENCES[at]}" for at, column in enumerate(queried)}
    if len(queried) == 1:
        sources = {queried[0].name: "Value"}
    fields = {sources.get(column.name, column.label): column for column in columns}
    builder = table.Panel().show_header(True).cell_height(look.TableCellHeight.SM)
    if highest or first:
        builder.sort_by([common.TableSortByFieldState().display_name(highest or first).desc(bool(highest))])
    panel = _finished(builder.build(), title, description, targets, shown)
    panel.transformations = [
        model.DataTransformerConfig(id_val="merge", options={}),
        model.DataTransformerConfig(
            id_val="organize",
            options={
                "includeByName": dict.fromkeys(fields, True),
                "indexByName": {field: at for at, field in enumerate(fields)},
                "renameByName": {field: column.name for field, column in fields.items()},
            },
        ),
    ]
    _configured(panel).overrides = [_column(column) for column in columns]
    return panel


def _column(column: Column) -> model.DashboardFieldConfigSourceOverrides:
    """An empty cell has a word of its own: the panel's is about a table without rows."""
    settings: dict[str, object] = {"noValue": NOTHING}
    if column.unit:
        settings["unit"] = column.unit
    if column.width:
        settings["custom.width"] = column.width
    if column.links:
        settings["links"] = list(column.links)
    if column.thresholds:
        settings["thresholds"] = thresholds(column.thresholds, "green")
        settings["custom.cellOptions"] = {"type": "color-text"}
    if column.words:
        settings["mappings"] = mappings(column.words)
        settings["custom.cellOptions"] = {"type": "color-background", "mode": "basic"}
    return override("byName", column.name, settings)


def _target(query: Query, reference: str, *, instant: bool = False) -> prometheus.Dataquery:
    return prometheus.Dataquery(
        expr=query.expression,
        legend_format=query.legend,
        ref_id=reference,
        exemplar=query.exemplars,
        instant=instant,
        range_val=not instant,
        editor_mode=prometheus.QueryEditorMode.CODE,
        datasource=look.DataSourceRef(type_val="prometheus", uid="${datasource}"),
    )


def _targets(queries: Sequence[Query], *, instant: bool = False) -> list[prometheus.Dataquery]:
    return [_target(query, REFERENCES[at], instant=instant) for at, query in enumerate(queries)]


def _text(value: float) -> common.VizTextDisplayOptions:
    return common.VizTextDisplayOptions().title_size(NAME_SIZE).value_size(value)


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)


def _text_mode(queries: Sequence[Query]) -> look.BigValueTextMode:
    """One series needs no name beside its value, unless that is a label."""
    alone = len(queries) == 1 and "{{" not in queries[0].legend
    return look.BigValueTextMode.VALUE if alone else look.BigValueTextMode.VALUE_AND_NAME


def _finished(
    panel: model.Panel, title: str, description: str, targets: Sequence[prometheus.Dataquery], shown: Look
) -> model.Panel:
    panel.title, panel.description, panel.datasource = title, description, DATASOURCE
    panel.targets = list(targets)
    panel.grid_pos = model.GridPos(w=shown.width, h=shown.height)
    config = _configured(panel)
    defaults = config.defaults
    defaults.unit, defaults.no_value = shown.unit, shown.empty
    defaults.min_val, defaults.max_val, defaults.decimals = shown.minimum, shown.maximum, shown.decimals
    defaults.links = list(shown.links) or None  # type: ignore[assignment] -- the SDK has links of boards here
    if shown.thresholds is not None:
        defaults.thresholds = thresholds(shown.thresholds, shown.base)
    defaults.mappings = mappings(shown.words or {})
    if panel.type_val in {"stat", "bargauge", "state-timeline"}:
        defaults.mappings.append(gap() if panel.type_val == "state-timeline" else unknown())
        defaults.color = _colour(panel.type_val, shown)
    config.overrides = [
        override("byRegexp", pattern, fixed(colour)) for pattern, colour in (shown.colours or {}).items()
    ]
    panel.time_from = shown.since
    return panel


def _colour(kind: str, shown: Look) -> model.FieldColor:
    """By thresholds where there are some; else by the words' own colours, and none that says good or bad."""
    if shown.thresholds is not None and kind != "state-timeline":
        return model.FieldColor(mode=model.FieldColorModeId.THRESHOLDS)
    plain = {"stat": NEUTRAL, "bargauge": "blue", "state-timeline": UNKNOWN}[kind]
    return model.FieldColor(mode=model.FieldColorModeId.FIXED, fixed_color=plain)


def _configured(panel: model.Panel) -> model.FieldConfigSource:
    panel.field_config = panel.field_config or model.FieldConfigSource(defaults=model.FieldConfig())
    return panel.field_config
