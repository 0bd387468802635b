"""The dashboards by themselves: Grafana's linter's rules, the grid, names that exist, links that lead somewhere."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, get_args
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import yaml

from observability.source.dashboards import alerted, links, names
from observability.source.slo import load_objectives
from service.resources.telemetry import SERVICE, Role
from service.telemetry.catalog import METRICS
from tests.monitoring.boards import ROOT, boards, filled, metric_panels, panels, queries, story_panels
from tests.monitoring.lint import RULES, WITHOUT_TARGET, Board, Rule
from tests.monitoring.promql import needs, selectors
from tests.monitoring.recorded_metrics import FOLDER
from tests.monitoring.stand import rule_files

BOARDS = {board["uid"]: board for board in boards()}
PROVISIONING = ROOT / "observability/grafana/provisioning"
SUFFIXES = ("_bucket", "_count", "_sum")
MADE_BY_PROMETHEUS = {
    "up",
    "ALERTS",
    "ALERTS_FOR_STATE",
    "scrape_duration_seconds",
    "scrape_samples_post_metric_relabeling",
}
OF_THE_CLIENT = ("process_", "python_gc_")
"""What prometheus_client gives every Python process."""


def datasources() -> dict[str, dict[str, Any]]:
    """Provisioned data sources by uid."""
    found = yaml.safe_load((PROVISIONING / "datasources/datasources.yaml").read_text())
    return {one["uid"]: one for one in found["datasources"]}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("uid", sorted(BOARDS))
def test_the_rules_hold(uid: str, rule: Rule) -> None:
    """Each board keeps each rule of the linter, strictly."""
    assert list(rule(BOARDS[uid])) == []


def _panel(board: Board) -> dict[str, Any]:
    return next(panel for panel in panels(board) if panel["type"] == "timeseries")


BREAKS: dict[str, Callable[[Board], Any]] = {
    "another data source": lambda b: _panel(b)["targets"][0].update(datasource={"type": "prometheus", "uid": "x"}),
    "one value alone": lambda b: b["templating"]["list"][1].update(multi=False),
    "no description": lambda b: _panel(b).update(description=""),
    "no word for nothing": lambda b: _panel(b)["fieldConfig"]["defaults"].pop("noValue"),
    "made-up unit": lambda b: _panel(b)["fieldConfig"]["defaults"].update(unit="requests"),
    "no legend": lambda b: _panel(b)["options"]["legend"].update(showLegend=False),
    "no PromQL": lambda b: _panel(b)["targets"][0].update(expr="sum("),
    "fixed range": lambda b: _panel(b)["targets"][0].update(
        expr='rate(api_requests_total{job=~"$job",instance=~"$instance"}[5m])'
    ),
    "bare counter": lambda b: _panel(b)["targets"][0].update(
        expr='sum(api_requests_total{job=~"$job",instance=~"$instance"})'
    ),
    "every job": lambda b: _panel(b)["targets"][0].update(expr="sum(api_requests_in_flight)"),
    "unknown variable": lambda b: _panel(b)["targets"][0].update(expr='up{pod="$pod"}'),
    "one on another": lambda b: _panel(b)["gridPos"].update(b["panels"][1]["gridPos"]),
    "same id": lambda b: _panel(b).update(id=b["panels"][0]["id"]),
    "editable": lambda b: b.update(editable=True),
    "no link": lambda b: _panel(b)["fieldConfig"]["defaults"].pop("links"),
    "metrics of Loki": lambda b: _panel(b).update(datasource={"type": "loki", "uid": "loki"}),
    "lines of another Loki": lambda b: _story(b, "loki")["targets"][0]["datasource"].update(uid="old"),
    "lines of another service": lambda b: _story(b, "loki")["targets"][0].update(expr='{service="x"} | json'),
    "lines by a field that none has": lambda b: _renamed(_story(b, "loki"), "expr", "endpoint", "route"),
    "lines that are not parsed": lambda b: _renamed(_story(b, "loki"), "expr", "| json ", ""),
    "traces of another service": lambda b: _story(b, "jaeger")["targets"][0].update(service="x"),
    "traces by a tag that no span has": lambda b: _renamed(_story(b, "jaeger"), "tags", "http.route", "route"),
    "traces of no operation": lambda b: _story(b, "jaeger")["targets"][0].update(operation="job"),
    "any trace": lambda b: _story(b, "jaeger")["targets"][0].update(tags=""),
    "a row for each of nothing": lambda b: b["panels"][-1].update(repeat="pod"),
}


def _story(board: Board, kind: str) -> dict[str, Any]:
    return next(panel for panel in story_panels(board) if panel["datasource"]["type"] == kind)


def _renamed(panel: dict[str, Any], member: str, name: str, other: str) -> None:
    panel["targets"][0][member] = panel["targets"][0][member].replace(name, other)


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_board_is_found_out(name: str) -> None:
    """The rules fail on a board that breaks one of them."""
    broken = copy.deepcopy(BOARDS[names.OVERVIEW])
    BREAKS[name](broken)
    assert [fault for rule in RULES for fault in rule(broken)]


def test_boards_can_be_told_apart() -> None:
    """File names are uids, and uids and titles are unique; the uids are those that alerts and links name."""
    files = [file.stem for file in (ROOT / "observability/grafana/dashboards").glob("*.json")]
    assert sorted(files) == sorted(BOARDS)
    assert len({board["title"] for board in BOARDS.values()}) == len(BOARDS)
    named = {value for name, value in vars(names).items() if name.isupper() and str(value).startswith("feature-agent-")}
    assert named == set(BOARDS)


def _known_metrics() -> set[str]:
    own = {metric.name for metric in METRICS}
    own |= {f"{metric.name}{suffix}" for metric in METRICS if metric.kind == "histogram" for suffix in SUFFIXES}
    recorded = {
        line.partition("{")[0].partition(" ")[0]
        for file in FOLDER.glob("*.prom")
        for line in file.read_text().splitlines()
        if not line.startswith("#")
    }
    rules = {
        rule["record"]
        for file in rule_files()
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    return own | recorded | rules | MADE_BY_PROMETHEUS


def test_every_metric_is_somebodys() -> None:
    """Each metric is in the catalog, recorded by a rule, in a recording of an exporter, or a known program's own."""
    asked = {selector.name for one in queries() for selector in selectors(one.filled())}
    elsewhere = (*OF_THE_CLIENT, "prometheus_", "locust_")
    strangers = {name for name in asked - _known_metrics() if not name.startswith(elsewhere)}
    assert strangers == set()
    unused = {prefix for prefix in WITHOUT_TARGET if not any(name.startswith(prefix) for name in asked)}
    assert unused == set()


def test_every_metric_and_label_of_the_service_is_on_a_board() -> None:
    """Nothing is measured that nobody looks at; renaming any of it would be seen."""
    shown: dict[str, set[str]] = {}
    for one in queries():
        told = {label for need in needs(one.filled()) for label in need.labels} | set(one.labels)
        for selector in selectors(one.filled()):
            name = re.sub("_(bucket|count|sum)$", "", selector.name)
            for key in (name, selector.name):
                shown.setdefault(key, set()).update(told)
    for metric in METRICS:
        assert metric.name in shown, f"no panel shows {metric.name}"
        missing = {label.name for label in metric.labels} - shown[metric.name]
        assert not missing, f"no panel shows {', '.join(missing)} of {metric.name}"


def _links(board: Board) -> Iterator[tuple[str, str]]:
    for panel in panels(board):
        config = panel["fieldConfig"]
        found = list(config["defaults"].get("links") or [])
        found += [
            link
            for of in config["overrides"]
            for one in of["properties"]
            if one["id"] == "links"
            for link in one["value"]
        ]
        found += panel.get("links", [])
        yield from ((panel["title"], link["url"]) for link in found)


@pytest.mark.parametrize("uid", sorted(BOARDS))
def test_links_lead_somewhere(uid: str) -> None:
    """Links go to a board with variables that it has, or to Explore on a data source that is provisioned."""
    for title, url in _links(BOARDS[uid]):
        parts = urlsplit(url)
        if parts.path.startswith("/d/"):
            target = BOARDS[parts.path.removeprefix("/d/")]
            variables = {one["name"] for one in target["templating"]["list"]}
            assert set(re.findall(r"var-(\w+)=", url)) <= variables, title
            assert "${__url_time_range}" in url or ("from=now-30d" in url and target["uid"] == names.SLO), title
        else:
            assert parts.path == "/explore", title
            [pane] = json.loads(unquote(parse_qs(parts.query)["panes"][0])).values()
            kind = {"prometheus": "expr", "loki": "expr", "jaeger": "queryType"}
            [query] = pane["queries"]
            assert query["datasource"] == {"type": datasources()[pane["datasource"]]["type"], "uid": pane["datasource"]}
            assert query[kind[query["datasource"]["type"]]], title
            assert query.get("service", links.API) in {f"{SERVICE}-{role}" for role in get_args(Role)}, title
            assert pane["range"] == {"from": "${__from}", "to": "${__to}"}, title


def test_reading_order() -> None:
    """The overview begins with whether the service is up, then goes from objectives to saturation."""
    rows = [panel["title"] for panel in BOARDS[names.OVERVIEW]["panels"] if panel["type"] == "row"]
    assert rows == [
        *("Is it up", "Objectives", "Requests", "Dependencies", "Queue", "Saturation", "Seen from outside"),
        "Log lines and traces of $route",
    ]


def test_durations_show_their_exemplars() -> None:
    """Every panel over a histogram that has exemplars asks for them, but for tables and single numbers."""
    with_exemplars = {metric.name for metric in METRICS if metric.exemplars}
    for board in BOARDS.values():
        for panel in metric_panels(board):
            asked = {selector.name for one in panel["targets"] for selector in selectors(filled(one["expr"]))}
            if panel["type"] in {"timeseries", "heatmap"} and {f"{name}_bucket" for name in with_exemplars} & asked:
                assert any(target["exemplar"] for target in panel["targets"]), panel["title"]


def test_data_sources_are_joined() -> None:
    """Metrics lead to traces, traces to logs and metrics, logs to traces; every uid that is named is there."""
    found = datasources()
    assert set(found) == {names.PROMETHEUS, names.JAEGER, names.LOKI, names.ALERTMANAGER}
    assert all(not one["editable"] for one in found.values())
    text = (PROVISIONING / "datasources/datasources.yaml").read_text()
    named = {uid for pair in re.findall(r"[dD]atasourceUid: (\w+)|alertmanagerUid: (\w+)", text) for uid in pair if uid}
    assert named == {names.LOKI, names.PROMETHEUS, names.ALERTMANAGER}
    traces = found["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    [derived] = found["loki"]["jsonData"]["derivedFields"]
    assert {one["name"] for one in traces} == {"trace_id"} == {derived["matcherRegex"]}
    assert all(one["url"].count("$${__value.raw}") == 1 and "datasourceUid" not in one for one in (*traces, derived))
    assert found["prometheus"]["jsonData"]["timeInterval"] == "15s"
    jaeger = found["jaeger"]["jsonData"]
    assert jaeger["tracesToLogsV2"]["datasourceUid"] in found
    assert "$${__trace.traceId}" in jaeger["tracesToLogsV2"]["query"]
    assert jaeger["tracesToMetrics"]["datasourceUid"] in found


def test_metrics_of_a_span_are_of_its_name() -> None:
    """A span leads to its own numbers; by tags an inner span without a route would ask for all traffic."""
    metrics = datasources()["jaeger"]["jsonData"]["tracesToMetrics"]
    assert "tags" not in metrics
    for one in metrics["queries"]:
        query = one["query"].replace("$${__span.name}", "model.attempt").replace("$$__rate_interval", "1m")
        [selector] = selectors(query)
        assert selector.name.startswith("traces_span_metrics_")
        assert 'span_name="model.attempt"' in query


def _trace_links() -> list[str]:
    """The links of an exemplar and of a log line to the trace in Explore, as they are provisioned."""
    exemplar = datasources()["prometheus"]["jsonData"]["exemplarTraceIdDestinations"][0]
    [line] = datasources()["loki"]["jsonData"]["derivedFields"]
    return [exemplar["url"], line["url"]]


@pytest.mark.parametrize("grafana", ["", "https://example.org/grafana"])
def test_links_to_a_trace_keep_grafanas_path(grafana: str) -> None:
    """An exemplar and a log line lead to Explore below the path at which Grafana is."""
    for url in _trace_links():
        found = urlsplit(url.replace("${GRAFANA_URL}", grafana))
        assert found.path == f"{urlsplit(grafana).path}/explore"
        assert found.netloc == urlsplit(grafana).netloc


def test_grafana_is_given_its_own_address() -> None:
    """compose.yaml gives Grafana the addresses that its data sources' links begin with."""
    given = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["grafana"]["environment"]
    text = (PROVISIONING / "datasources/datasources.yaml").read_text()
    assert set(re.findall(r"(?<!\$)\$\{(\w+)\}", text)) == {"GRAFANA_URL", "JAEGER_URL"} <= given.keys()
    assert given["GF_SERVER_ROOT_URL"] == given["GRAFANA_URL"] + "/"


@pytest.mark.parametrize("url", _trace_links(), ids=["exemplar", "log line"])
def test_links_to_a_trace_open_it(url: str) -> None:
    """The link of an exemplar or a line is a query of Jaeger by id, not its search form (grafana/grafana#111448)."""
    jaeger = datasources()["prometheus"]["jsonData"]["exemplarTraceIdDestinations"][1]
    url = url.replace("$${__value.raw}", "0af7651916cd43dd8448eb211c80319c")
    [pane] = json.loads(parse_qs(urlsplit(url).query)["panes"][0]).values()
    assert pane["datasource"] == "jaeger"
    assert pane["queries"] == [
        {
            "refId": "A",
            "datasource": {"type": "jaeger", "uid": "jaeger"},
            "query": "0af7651916cd43dd8448eb211c80319c",
        }
    ]
    assert jaeger["url"] == "${JAEGER_URL}/trace/$${__value.raw}"


def test_dashboards_are_provisioned() -> None:
    """The provider reads the folder that compose.yaml mounts, and the home board is one of its files."""
    [provider] = yaml.safe_load((PROVISIONING / "dashboards/dashboards.yaml").read_text())["providers"]
    assert (provider["type"], provider["allowUiUpdates"], provider["folderUid"]) == ("file", False, "feature-agent")
    grafana = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["grafana"]
    folder = provider["options"]["path"]
    assert f"./observability/grafana/dashboards:{folder}:ro" in grafana["volumes"]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{folder}/{names.OVERVIEW}.json"


IN_VIEW = {names.OVERVIEW: "route", names.MODEL: "model", names.EXTRACTIONS: "extraction"}


@pytest.mark.parametrize(("uid", "name"), IN_VIEW.items())
def test_log_lines_and_traces_are_of_what_is_in_view(uid: str, name: str) -> None:
    """The row of log lines and traces asks both for the value of the board's variable, and stays closed till then."""
    board = BOARDS[uid]
    row = board["panels"][-1]
    assert (row["type"], row["collapsed"]) == ("row", True)
    assert row.get("repeat") == (None if name == "extraction" else name)
    stories = list(story_panels(board))
    assert [panel["datasource"]["type"] for panel in stories] == ["loki", "jaeger"]
    assert all("${" + name + "}" in json.dumps(panel["targets"]) for panel in stories)
    assert all(panel in row["panels"] for panel in stories)


def test_objectives_name_boards_that_exist() -> None:
    """The board that an alert of an objective leads to is there."""
    objectives = load_objectives(ROOT / "observability/slo.yaml")
    assert {slo.dashboard for slo in objectives.slos} <= set(BOARDS)


def test_alerts_lead_to_boards() -> None:
    """Every `dashboard_url` of every alert names a board, and a panel of it where it names one."""
    for file in rule_files():
        for group in yaml.safe_load(file.read_text())["groups"]:
            for rule in group["rules"]:
                url = rule.get("annotations", {}).get("dashboard_url")
                if url is None:
                    continue
                parts = urlsplit(re.sub(r"\{\{.*?\}\}", "x", url))
                board = BOARDS[parts.path.rpartition("/d/")[2].partition("/")[0]]
                panel = parse_qs(parts.query).get("viewPanel", ["panel-0"])[0].removeprefix("panel-")
                assert panel == "0" or int(panel) in {one["id"] for one in panels(board)}, url


def test_alerts_lead_to_their_panels() -> None:
    """Every alert of the table is shipped, and leads to the panel that the table names."""
    led: dict[str, set[str]] = {}
    for file in rule_files():
        for group in yaml.safe_load(file.read_text())["groups"]:
            for rule in (rule for rule in group["rules"] if "alert" in rule):
                parts = urlsplit(re.sub(r"\{\{.*?\}\}", "x", rule["annotations"]["dashboard_url"]))
                ids = {f"panel-{one['id']}": one["title"] for one in panels(BOARDS[parts.path.rpartition("/")[2]])}
                [panel] = parse_qs(parts.query).get("viewPanel", [""])
                led.setdefault(rule["alert"], set()).add(ids.get(panel, ""))
    assert led.keys() >= alerted.PANELS.keys()
    assert all(led[alert] == {title} for alert, title in alerted.PANELS.items())


def test_jobs_are_those_that_are_scraped() -> None:
    """Every job that a rule or a board names is one that Prometheus scrapes."""
    configuration = yaml.safe_load((ROOT / "observability/prometheus/prometheus.yml").read_text())
    scraped = {job["job_name"] for job in configuration["scrape_configs"]}
    expressions = [one.expression for one in queries()]
    for file in rule_files():
        for group in yaml.safe_load(file.read_text())["groups"]:
            expressions += [rule["expr"] for rule in group["rules"]]
    text = "\n".join(expressions)
    for operator, value in set(re.findall(r'\bjob(=~?)"([^"$]+)"', text)):
        matched = {job for job in scraped if (job == value if operator == "=" else re.fullmatch(value, job))}
        assert matched, f"no job is {operator}{value}"
    own = {job for job in scraped if re.fullmatch("feature-agent.*", job)}
    assert own == {"feature-agent", "feature-agent-worker"}
    selector = load_objectives(ROOT / "observability/slo.yaml").selector
    [pattern] = re.findall(r'job=~"([^"]+)"', selector)
    assert {job for job in scraped if re.fullmatch(pattern, job)} == own
