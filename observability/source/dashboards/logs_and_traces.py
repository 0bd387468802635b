"""Rows of log lines and traces for one value of a board's variable: the route, model or extraction in view."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from grafana_foundation_sdk.builders import logs, table
from grafana_foundation_sdk.cog import variants
from grafana_foundation_sdk.models import common as look
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import loki

from observability.source.dashboards import links
from observability.source.dashboards.board import Row
from observability.source.dashboards.fields import override
from observability.source.dashboards.names import JAEGER, LOKI

HEIGHT = 12
MAX_LINES = 200
"""Of the newest lines; the panel's link leads to all of them."""
NO_LINES = "No log line in this time range, or Loki does not answer"
NO_TRACES = "No trace was kept in this time range, or Jaeger does not answer"
API_WORKS = "Where the API runs the jobs itself, its traces are those of feature-agent."
WIDTHS = {"Trace ID": 290, "Start time": 160, "Duration": 90}
"""Of columns, in pixels; the name of the trace takes what they leave."""
EXTRACTION = "| extraction_id != `` | extraction_id =~ `${extraction}.*`"
"""By the metadata that Alloy keeps beside the line; without an id, the lines of every extraction."""


@dataclass(frozen=True)
class JaegerSearch(variants.Dataquery):
    """A search for traces, as Grafana's data source for Jaeger takes it; the SDK has no type of its own for it."""

    query: Mapping[str, object]

    def to_json(self) -> dict[str, object]:
        """The target of a panel."""
        return {"refId": "A", "datasource": {"type": "jaeger", "uid": JAEGER}, **self.query}


def of_route() -> Row:
    """Build a row for each chosen route: its name is the same in metrics, log lines and spans."""
    return Row(
        "Log lines and traces of $route",
        [
            log_lines(
                "Log lines of the route",
                "The newest access log lines of this route.",
                '| json | endpoint =~ "${route}"',
            ),
            traces(
                "Traces of the route",
                "Traces with a request to this route; those with errors, and slow ones, are all kept.",
                tags='http.route="${route}"',
            ),
        ],
        collapsed=True,
        repeat="route",
    )


def of_model() -> Row:
    """Build a row for each chosen model."""
    return Row(
        "Log lines and traces of $model",
        [
            log_lines(
                "Log lines of the model",
                "The newest log lines that name this model: retries, fallbacks, its circuit breaker.",
                '| json | model =~ "${model}"',
            ),
            traces(
                "Traces of the model",
                "Traces with a request to this model; those with a failed request, and slow ones, are all kept. "
                + API_WORKS,
                service=links.WORKER,
                operation="model.attempt",
                empty=f"{NO_TRACES}. {API_WORKS}",
                tags='feature_agent.model="${model}"',
            ),
        ],
        collapsed=True,
        repeat="model",
    )


def of_extraction() -> Row:
    """Build the row of the extraction whose id is entered above the board."""
    return Row(
        "Log lines and traces of the extraction $extraction",
        [
            log_lines(
                "Log lines of the extraction",
                "What API and workers logged about the extraction whose id is entered above; without one, about all.",
                EXTRACTION,
            ),
            traces(
                "Traces of the extraction",
                "The request and each attempt at the extraction whose id is entered above. All of them are kept. "
                + API_WORKS,
                service=links.WORKER,
                tags='extraction.id="${extraction}"',
                empty=f"Enter an extraction's id above; or no trace of it is left. {API_WORKS}",
            ),
        ],
        collapsed=True,
    )


def log_lines(title: str, description: str, pipeline: str) -> model.Panel:
    """Log lines of the service, the newest first, with their time and details."""
    builder = logs.Panel().show_time(True).wrap_log_message(True).enable_log_details(True)
    builder.sort_order(look.LogsSortOrder.DESCENDING).dedup_strategy(look.LogsDedupStrategy.NONE)
    query = loki.Dataquery(
        expr=f"{links.STREAM} {pipeline}",
        ref_id="A",
        query_type="range",
        max_lines=MAX_LINES,
        editor_mode=loki.QueryEditorMode.CODE,
        datasource=look.DataSourceRef(type_val="loki", uid=LOKI),
    )
    panel = _described(builder.build(), title, description, NO_LINES, links.logs("All in Explore", pipeline))
    panel.datasource, panel.targets = model.DataSourceRef(type_val="loki", uid=LOKI), [query]
    return panel


def traces(
    title: str,
    description: str,
    *,
    service: str = links.API,
    operation: str | None = None,
    tags: str | None = None,
    empty: str = NO_TRACES,
) -> model.Panel:
    """Traces that a search finds, as a table; the data source makes its columns, and each id leads to the trace."""
    found = links.traces("Search in Explore", service=service, operation=operation, tags=tags)
    built = table.Panel().show_header(True).cell_height(look.TableCellHeight.SM).build()
    panel = _described(built, title, description, empty, found)
    panel.datasource = model.DataSourceRef(type_val="jaeger", uid=JAEGER)
    panel.targets = [JaegerSearch(links.search(service=service, operation=operation, tags=tags))]
    config = panel.field_config or model.FieldConfigSource()
    config.overrides = [override("byName", name, {"custom.width": width}) for name, width in WIDTHS.items()]
    return panel


def _described(panel: model.Panel, title: str, description: str, empty: str, link: links.Link) -> model.Panel:
    """Links stand at the title: on each value they would hide the link to its trace."""
    panel.title, panel.description = title, description
    panel.grid_pos = model.GridPos(w=12, h=HEIGHT)
    panel.links = [link]  # type: ignore[list-item] -- the SDK has links of boards here
    panel.field_config = panel.field_config or model.FieldConfigSource(defaults=model.FieldConfig())
    panel.field_config.defaults.no_value = empty
    return panel
