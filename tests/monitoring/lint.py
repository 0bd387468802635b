"""The rules of Grafana's dashboard-linter, and those of this bundle, for one dashboard: a list of faults each."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import promql_parser as parser

from observability.source.dashboards.links import API, STREAM, WORKER
from service.telemetry.catalog import LOG_ACCESS, LOG_CORRELATION, LOG_FIELDS, LOG_IDENTITY, SPANS
from tests.monitoring.boards import LABEL_VALUES, filled, metric_panels, panels, story_panels
from tests.monitoring.promql import selectors

Board = dict[str, Any]
Rule = Callable[[Board], Iterator[str]]

UNITS = {
    *("none", "short", "percent", "percentunit", "bytes", "s", "ops", "reqps", "cps", "currencyUSD"),
    *("dateTimeFromNow", "opm", "reqpm", "cpm"),
}
"""Of the linter's list, those that are in use here."""
WITHOUT_TARGET: dict[str, str] = {
    "slo:": "recorded for the service as a whole; its label is service",
    "ALERTS": "made by Prometheus itself; an alert on a sum has neither job nor instance",
    "up": "one for each target of every job: the board is about all of them",
    "scrape_duration_seconds": "likewise",
    "prometheus_": "Prometheus' own, whose job is not the service's",
    "alertmanager_": "Alertmanager's own, likewise",
    "otelcol_": "Jaeger's own, likewise",
    "loki_": "Loki's and Alloy's own, likewise",
    "redis_": "redis_exporter's, likewise",
    "pg_": "postgres_exporter's, likewise",
    "probe_": "blackbox_exporter's, likewise",
    "node_": "node_exporter's, likewise",
    "kubelet_": "the kubelet's, likewise",
    "locust_": "the load test's own, likewise",
    "kube_": "kube-state-metrics', whose job and instance are its own",
    "container_": "cAdvisor's, likewise",
    "application_info": "what the variables themselves are read from, and the annotation that spans all of them",
}
"""Metrics that need no `job=~"$job",instance=~"$instance"`, by the beginning of their names, each with the reason."""


STORIES: dict[str, str] = {
    "loki": "logs",
    "jaeger": "table",
}
"""Panels of other data sources by its kind and uid, which are one word here: log lines are Loki's and traces Jaeger's,
and there is one of each, so that no variable chooses among them. Metrics are asked of `$datasource` alone."""


def one_data_source(board: Board) -> Iterator[str]:
    """template-datasource-rule and panel-datasource-rule, but for log lines and traces."""
    found = [one for one in board["templating"]["list"] if one["type"] == "datasource"]
    if [(one["name"], one["label"], one["query"]) for one in found] != [("datasource", "Data source", "prometheus")]:
        yield "it needs one variable `datasource`, labelled `Data source`, of type prometheus"
    metrics = {"type": "prometheus", "uid": "${datasource}"}
    asked = [("variable " + one["name"], one, metrics) for one in board["templating"]["list"] if one["type"] == "query"]
    asked += [("annotation " + one["name"], one, metrics) for one in board["annotations"]["list"]]
    for panel in panels(board):
        kind = panel["datasource"]["type"]
        wanted = {"type": kind, "uid": kind} if STORIES.get(kind) == panel["type"] else metrics
        asked += [(f"panel {panel['title']}", one, wanted) for one in (panel, *panel["targets"])]
    yield from (f"{what} asks another data source" for what, one, wanted in asked if one.get("datasource") != wanted)


def stories_of_the_service(board: Board) -> Iterator[str]:
    """Log lines are selected as links select them, by fields that they have; traces by names of the catalog."""
    for panel in story_panels(board):
        for target in panel["targets"]:
            faults = log_faults(target["expr"]) if "expr" in target else trace_faults(target)
            yield from (f"panel {panel['title']}: {fault}" for fault in faults)


def log_faults(expression: str) -> Iterator[str]:
    """What is wrong with a query of log lines."""
    if not expression.startswith(f"{STREAM} |"):
        yield "log lines of other streams than the service's"
    fields = {*LOG_IDENTITY, *LOG_CORRELATION, *LOG_ACCESS, *LOG_FIELDS}
    named = re.findall(r"\| (\w+) (?:=~|!=|=)", expression)
    yield from (f"no log line has the field {name}" for name in named if name not in fields)
    kept = {*LOG_CORRELATION, "level"}
    if "| json" not in expression and not kept.issuperset(named):
        yield "fields that are in the line, which is not parsed"


def trace_faults(search: dict[str, Any]) -> Iterator[str]:
    """What is wrong with a search for traces."""
    if search["queryType"] != "search" or search["service"] not in {API, WORKER} or not search["limit"]:
        yield "not a bounded search of the service's traces"
    spans = [span for span in SPANS if search.get("operation") in {None, span.name}]
    if not spans:
        yield f"no span is called {search['operation']}"
    known = {attribute for span in spans for attribute in span.attributes} | {"error"}
    wanted = [pair.partition("=")[0] for pair in shlex.split(search.get("tags", ""))]
    yield from (f"no such span has {name}" for name in wanted if name not in known)
    if not wanted:
        yield "no tag, so that it finds any trace"


def job_and_instance(board: Board) -> Iterator[str]:
    """template-job-rule, template-instance-rule, template-on-time-change-reload-rule, template-label-promql-rule."""
    variables = {one["name"]: one for one in board["templating"]["list"]}
    for name in ("job", "instance"):
        one = variables.get(name, {})
        shape = (one.get("type"), one.get("label"), one.get("multi"), one.get("allValue"), one.get("includeAll"))
        if shape != ("query", name.title(), True, ".+", True):
            yield f"variable {name} is not a query for several values, with .+ for all"
    for one in variables.values():
        if one["type"] == "query" and (one["refresh"] != 2 or not LABEL_VALUES.fullmatch(one["query"])):
            yield f"variable {one['name']} is not label_values(), read again when the time range changes"


def said_in_words(board: Board) -> Iterator[str]:
    """panel-title-description-rule, panel-no-targets-rule, and words for when there is nothing to show."""
    for panel in panels(board):
        defaults = panel["fieldConfig"]["defaults"]
        missing = [name for name in ("title", "description", "targets") if not panel.get(name)]
        missing += [] if defaults.get("noValue") else ["noValue"]
        yield from (f"panel {panel['title']} has no {name}" for name in missing)
        if panel["description"] and not panel["description"].endswith("."):
            yield f"panel {panel['title']} is not described in a sentence"


def known_units(board: Board) -> Iterator[str]:
    """panel-units-rule, for tables by column."""
    for panel in metric_panels(board):
        properties = [one for of in panel["fieldConfig"]["overrides"] for one in of["properties"]]
        named = [panel["fieldConfig"]["defaults"].get("unit"), *(p["value"] for p in properties if p["id"] == "unit")]
        if not set(named) <= UNITS:
            yield f"panel {panel['title']} has a unit that the linter does not know"
        if panel["type"] != "table" and named[0] == "none":
            yield f"panel {panel['title']} has no unit"


def legible_legends(board: Board) -> Iterator[str]:
    """Every series of a panel with several has a name of its own."""
    for panel in metric_panels(board):
        if panel["type"] == "table":
            continue
        names = [target["legendFormat"] for target in panel["targets"]]
        if len(set(names)) != len(names):
            yield f"panel {panel['title']} has two series of one name"
        if panel["type"] in {"timeseries", "state-timeline"} and not panel["options"]["legend"]["showLegend"]:
            yield f"panel {panel['title']} shows no legend"


def sound_queries(board: Board) -> Iterator[str]:
    """target-promql-rule, target-rate-interval-rule, target-counter-agg-rule, target-job- and -instance-rule."""
    for panel in metric_panels(board):
        for target in panel["targets"]:
            yield from (f"panel {panel['title']}: {fault}" for fault in query_faults(target["expr"]))
    for one in board["annotations"]["list"]:
        yield from (f"annotation {one['name']}: {fault}" for fault in query_faults(one["expr"]))


def query_faults(expression: str) -> Iterator[str]:
    """What is wrong with one query by itself."""
    try:
        found = list(selectors(filled(expression)))
        parser.parse(filled(expression))
    except ValueError as error:
        yield f"no PromQL: {error}"
        return
    yield from _without_target(expression, {selector.name for selector in found})
    for function, inner in re.findall(r"\b(rate|irate|increase)\(\w+(?:\{[^}]*\})?(\[[^\]]*\])", expression):
        allowed = {"[$__rate_interval]"} if function != "increase" else {"[$__range]", "[1h]", "[$__rate_interval]"}
        if inner not in allowed:
            yield f"{function} over {inner}"
    counted = {selector.name for selector in found if selector.name.endswith("_total")}
    ranged = set(re.findall(r"\b(?:rate|increase)\((\w+)", expression))
    yield from (f"{name} is a counter, and not taken as a rate" for name in counted - ranged)


def _without_target(expression: str, names: set[str]) -> Iterator[str]:
    for name in names:
        if name.startswith(tuple(WITHOUT_TARGET)):
            continue
        for selected in re.findall(rf"(?<![\w:]){name}(?![\w:])(\{{[^}}]*\}})?", expression):
            if not ('job=~"$job"' in selected and 'instance=~"$instance"' in selected):
                yield f"{name} is not of the chosen job and instance"


def defined_variables(board: Board) -> Iterator[str]:
    """Every `$name` is a variable of the board or one of Grafana's own."""
    text = [json.dumps(target) for panel in panels(board) for target in panel["targets"]]
    text += [row.get("title", "") + (f"${row['repeat']}" if row.get("repeat") else "") for row in board["panels"]]
    text += [one["query"] for one in board["templating"]["list"]]
    text += [one["expr"] for one in board["annotations"]["list"]]
    known = {one["name"] for one in board["templating"]["list"]} | {"__rate_interval", "__range", "__interval"}
    used = {name for one in text for name in re.findall(r"\$\{?(\w+)", one) if not name.isdigit()}
    yield from (f"${name} is not defined" for name in used - known)
    for one in board["templating"]["list"]:
        unused = not any(re.search(rf"\$\{{?{one['name']}\b", expression) for expression in text)
        if one["name"] not in {"datasource", "job", "instance"} and unused:
            yield f"${one['name']} is not used"


def places(board: Board) -> Iterator[str]:
    """Panels lie on the grid, none on another; ids are unique; each row begins with its heading."""
    placed = [panel for panel in board["panels"] if panel["type"] != "row" or not panel["collapsed"]]
    folded = [row["panels"] for row in board["panels"] if row["type"] == "row" and row["collapsed"]]
    for group in (placed, *folded):
        yield from (f"{a['title']} lies on {b['title']}" for a, b in combinations(group, 2) if _overlap(a, b))
        for panel in group:
            if panel["gridPos"]["x"] + panel["gridPos"]["w"] > 24:
                yield f"{panel['title']} is wider than the grid"
    every = [*board["panels"], *(panel for group in folded for panel in group)]
    if len({panel["id"] for panel in every}) != len(every):
        yield "two panels have one id"
    titles = [panel["title"] for panel in panels(board)]
    if len(set(titles)) != len(titles):
        yield "two panels have one title"


def _overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    a, b = one["gridPos"], other["gridPos"]
    across = a["x"] < b["x"] + b["w"] and b["x"] < a["x"] + a["w"]
    return across and a["y"] < b["y"] + b["h"] and b["y"] < a["y"] + a["h"]


def full_rows(board: Board) -> Iterator[str]:
    """Panels fill each line of the grid from left to right: no gap where one looks for a panel."""
    lines: dict[int, list[dict[str, Any]]] = {}
    for panel in panels(board):
        lines.setdefault(panel["gridPos"]["y"], []).append(panel)
    for line in lines.values():
        if sum(panel["gridPos"]["w"] for panel in line) != 24 or len({panel["gridPos"]["h"] for panel in line}) != 1:
            yield f"the line of {line[0]['title']} has a gap"


def closed_to_editing(board: Board) -> Iterator[str]:
    """uneditable-dashboard, and what a provisioned classic dashboard is."""
    if board["editable"]:
        yield "it can be edited, and the changes would be lost"
    if board["schemaVersion"] < 39 or {"apiVersion", "kind", "spec"} & board.keys():
        yield "it is not a classic dashboard, which file provisioning takes"
    if board.get("id") is not None:
        yield "it has an id of some Grafana's own"
    if board["graphTooltip"] != 1 or board["refresh"] != "30s":
        yield "it does not share its crosshair, or does not refresh itself"


def leading_on(board: Board) -> Iterator[str]:
    """Every panel has links to follow what it shows."""
    for panel in panels(board):
        links = (
            panel.get("links")
            or panel["fieldConfig"]["defaults"].get("links")
            or [
                link
                for of in panel["fieldConfig"]["overrides"]
                for one in of["properties"]
                if one["id"] == "links"
                for link in one["value"]
            ]
        )
        if not links and panel["title"] not in LEADS_NOWHERE:
            yield f"panel {panel['title']} leads nowhere"


LEADS_NOWHERE = {"Versions"}
RULES: tuple[Rule, ...] = (
    one_data_source,
    stories_of_the_service,
    job_and_instance,
    said_in_words,
    known_units,
    legible_legends,
    sound_queries,
    defined_variables,
    places,
    full_rows,
    closed_to_editing,
    leading_on,
)
