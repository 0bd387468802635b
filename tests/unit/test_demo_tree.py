from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from rich.console import Console

from tools.demo.client import Feature, Model, Quality, Rejected, Result, Statistics
from tools.demo.metrics import Change, Exemplar, Scrape, changes_between, parse
from tools.demo.page import print_failure, print_report
from tools.demo.process import free_ports, service_environment
from tools.demo.report import DemoReport, Step, manual_commands
from tools.demo.trace_tree import Kind, Node, Span, build_forest, draw_forest

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
REQUEST = "demo-3fa91b22"
MILLISECOND = 1_000_000


def span(
    name: str, parent: str = "", start: int = 0, end: int = 10, *, kind: Kind = "internal", failed: bool = False
) -> Span:
    """A span whose id is its name; times in milliseconds."""
    return Span(TRACE, name, parent, name, kind, start * MILLISECOND, end * MILLISECOND, failed)


def names(node: Node) -> object:
    """The node as nested tuples of names."""
    return (node.span.name, *map(names, node.children))


def drawn(spans: list[Span], width: int = 100) -> list[str]:
    """The lines of the drawing."""
    console = Console(file=StringIO(), width=width, color_system=None)
    with console.capture() as screen:
        console.print(draw_forest(build_forest(spans)))
    return [line.rstrip() for line in screen.get().splitlines()]


# ---------------------------------------------------------------------------------------------------------------- tree


def test_siblings_in_order_of_start() -> None:
    """Spans hang below their parents, siblings in order of time, however they arrived."""
    forest = build_forest([span("late", "root", 6), span("leaf", "early", 3), span("root"), span("early", "root", 2)])
    assert [names(tree) for tree in forest] == [("root", ("early", ("leaf",)), ("late",))]
    assert not forest[0].orphan


def test_missing_parent_makes_an_orphan() -> None:
    """A span whose parent did not arrive is a tree of its own, and marked, as its children are not."""
    root, orphan = build_forest([span("root"), span("lost", "nowhere", 4), span("child", "lost", 5)])
    assert (root.orphan, orphan.orphan, orphan.children[0].orphan) == (False, True, False)
    assert names(orphan) == ("lost", ("child",))


def test_circle_is_cut_at_its_earliest_span() -> None:
    """Parents that go round in a circle do not go on for ever: the earliest span becomes an orphan."""
    (tree,) = build_forest([span("b", "a", 2), span("a", "b", 1)])
    assert names(tree) == ("a", ("b",))
    assert tree.orphan


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(-1, 12), st.integers(0, 50)), max_size=25))
def test_every_span_has_exactly_one_place(raw: list[tuple[int, int, int]]) -> None:
    """Whatever the parents say, each span is drawn once: exported twice, without parent, or its own ancestor."""
    spans = [span(str(own), "" if parent < 0 else str(parent), start) for own, parent, start in raw]
    placed = [node.span.span_id for tree in build_forest(spans) for node in tree.walk()]
    assert sorted(placed) == sorted({one.span_id for one in spans})


def test_drawing_shows_names_durations_and_guides() -> None:
    """Each span has one line with its branch, kind, milliseconds and bar."""
    lines = drawn(
        [
            span("POST /x", end=1840, kind="server"),
            span("plan", "POST /x", 10, 400),
            span("chat", "plan", 20, 300, kind="client"),
            span("compute", "POST /x", 400, 1800),
        ]
    )
    assert [line.split("  ")[0] for line in lines] == ["POST /x server", "├─ plan", "│", "└─ compute"]
    assert lines[2].startswith("│  └─ chat client")
    assert ["1,840.0 ms" in lines[0], "390.0 ms" in lines[1], "1,400.0 ms" in lines[3]] == [True] * 3


def test_bars_are_in_proportion() -> None:
    """A span's bar begins and ends where the span does: half the time is half the length, in the second half."""
    whole, half = drawn([span("root", end=1000), span("half", "root", 500, 1000)], width=140)
    assert whole.count("█") == pytest.approx(2 * half.count("█"), abs=1.5)
    assert half.index("█") > whole.index("█") + whole.count("█") / 2 - 2


def test_shortest_span_still_shows() -> None:
    """A span of no length has a visible bar, at the very end of the axis too."""
    lines = drawn([span("root", end=1000), span("start", "root", 0, 0), span("end", "root", 1000, 1000)], width=140)
    assert all(any(block in line for block in "█▌▍▎▏▐▕▊▋▉") for line in lines)


def test_orphans_and_failures_are_told() -> None:
    """An orphan says so in words, and a failed span is red."""
    console = Console(file=StringIO(), width=100, force_terminal=True, color_system="standard")
    with console.capture() as screen:
        console.print(draw_forest(build_forest([span("lost", "nowhere"), span("broken", "lost", failed=True)])))
    text = screen.get()
    assert "orphan: its parent did not arrive" in text
    assert "\x1b[1;31mbroken" in text


def test_no_spans_draw_nothing() -> None:
    """An empty forest is drawn as nothing rather than failing."""
    assert "".join(drawn([])) == ""


# -------------------------------------------------------------------------------------------------------------- scrape


@pytest.fixture
def registry() -> CollectorRegistry:
    """A registry of its own for each test."""
    return CollectorRegistry()


def openmetrics(registry: CollectorRegistry) -> Scrape:
    """The registry as scraped in the OpenMetrics format."""
    return parse(generate_openmetrics(registry).decode(), CONTENT_TYPE_LATEST)


def test_difference_of_two_scrapes(registry: CollectorRegistry) -> None:
    """What grew between two scrapes is listed with before and after; what stood still and gauges are not."""
    requests = Counter("api_requests", "help", ["method", "status"], registry=registry)
    pool = Gauge("db_pool_connections", "help", registry=registry)
    requests.labels("GET", "200").inc(2)
    requests.labels("PUT", "200").inc()
    before = openmetrics(registry)
    pool.set(4)
    requests.labels("GET", "200").inc()
    requests.labels("POST", "201").inc()
    assert changes_between(before, openmetrics(registry)) == (
        Change("api_requests_total", {"method": "GET", "status": "200"}, 2, 3),
        Change("api_requests_total", {"method": "POST", "status": "201"}, 0, 1),
    )


def test_histogram_moves_count_and_sum(registry: CollectorRegistry) -> None:
    """An observation shows as the histogram's count and sum, not as its buckets; its exemplar is kept."""
    seconds = Histogram("api_request_duration_seconds", "help", ["endpoint"], buckets=(1.0, 5.0), registry=registry)
    before = openmetrics(registry)
    seconds.labels("/x").observe(2.5, {"trace_id": TRACE})
    after = openmetrics(registry)
    assert [(change.name, change.after) for change in changes_between(before, after)] == [
        ("api_request_duration_seconds_count", 1),
        ("api_request_duration_seconds_sum", 2.5),
    ]
    assert after.exemplars == (
        Exemplar("api_request_duration_seconds_bucket", {"endpoint": "/x", "le": "5.0"}, TRACE, 2.5),
    )


def test_plain_text_is_read_too(registry: CollectorRegistry) -> None:
    """The Prometheus text format gives the same numbers, without exemplars."""
    Counter("jobs", "help", registry=registry).inc(4, {"trace_id": TRACE})
    scrape = parse(generate_latest(registry).decode(), CONTENT_TYPE_PLAIN_0_0_4)
    assert (scrape.value("jobs_total"), scrape.exemplars) == (4, ())
    assert [found.trace_id for found in openmetrics(registry).exemplars] == [TRACE]


def test_what_moves_by_itself_is_left_out(registry: CollectorRegistry) -> None:
    """Families that every breath of a process moves are not of the request."""
    Counter("process_cpu_seconds", "help", registry=registry).inc()
    Histogram("event_loop_lag_seconds", "help", registry=registry).observe(1)
    assert openmetrics(registry).values == {}


def test_value_sums_over_the_other_labels(registry: CollectorRegistry) -> None:
    """A name with some labels is the sum of the series that carry them, and 0 without any."""
    requests = Counter("api_requests", "help", ["endpoint", "status"], registry=registry)
    requests.labels("/x", "200").inc(2)
    requests.labels("/x", "500").inc(1)
    requests.labels("/y", "200").inc(7)
    scrape = openmetrics(registry)
    assert scrape.value("api_requests_total", endpoint="/x") == 3
    assert scrape.value("api_requests_total", endpoint="/z") == 0


def test_broken_exposition_is_refused() -> None:
    """An exposition that breaks OpenMetrics is refused, not half read."""
    with pytest.raises(ValueError, match="Missing # EOF"):
        parse("# TYPE jobs counter\njobs_total 1\n", CONTENT_TYPE_LATEST)


# ---------------------------------------------------------------------------------------------------------------- page


def report() -> DemoReport:
    """Make a report with something in every part, and more table columns than any screen holds."""
    feature = Feature(
        "user_click_rate", "Clicks over impressions of each user", "number", 0.91,
        Statistics(0.03, 812, 0.0, 1.0, 0.2, 0.18),
    )  # fmt: skip
    best = Feature("user_top_category", "[bold]most frequent", "string", 0.7, Statistics(distinct_count=7))
    worst = Feature("user_spend", "Sum of prices", "number", 0.4, Statistics(0.5, 90, 0.0, 123_456.0, 9.0, 4.5))
    line = {
        "timestamp": "2026-03-02T10:11:12.345678Z", "level": "info", "message": "request", "request_id": REQUEST,
        "trace_id": TRACE, "endpoint": "/x", "path": "/x", "status": 200, "note": "n" * 60, "version": "0.0.0",
    }  # fmt: skip
    stranger = {"message": "odd", "level": "warning", "request_id": "other", "endpoint": "/x", "path": "/y"}
    return DemoReport(
        sentence="Click-through, please",
        quality_threshold="medium",
        dataset_id="event-log",
        rows=60_000,
        request_id=REQUEST,
        trace_id=TRACE,
        processing_time=1.844,
        steps=(Step("service ready", 3.14),),
        result=Result(
            extraction_id="0198",
            status="completed",
            features=(feature, best, worst),
            row_count=1_498,
            grain="entity",
            model=Model("builtin:planner"),
            quality=Quality("medium", 0.8),
            rejected_features=(Rejected("user_flag", "A flag", "below_threshold", "too constant", 0.2),),
        ),
        trace=build_forest([span("POST /x", kind="server"), span("plan", "POST /x")]),
        log=(line, stranger),
        metrics=(Change("api_requests_total", {"method": "POST"}, 0, 1),),
        exemplars=(
            Exemplar("api_request_duration_seconds_bucket", {"le": "2.5"}, TRACE, 1.8),
            Exemplar("jobs_total", {}, TRACE, 1),
        ),
        table=(
            ("user_id", *[f"feature_{number}" for number in range(30)]),
            ("u00001", *["0.123456"] * 30),
            ("a.b", *["x" * 40] * 30),
        ),
        commands=manual_commands("Click-through, please", "medium", None),
    )


def page(width: int, given: DemoReport | None = None, *, colours: bool = False) -> str:
    """Return the report as printed on a screen of that width."""
    system = "standard" if colours else None
    console = Console(file=StringIO(), width=width, force_terminal=colours, color_system=system)
    with console.capture() as screen:
        print_report(console, given or report())
    return screen.get()


@pytest.mark.parametrize("width", [80, 100, 140])
def test_page_tells_everything(width: int) -> None:
    """Features, rejections, spans, log lines, metrics, exemplars, rows and commands are all there at every width."""
    text = page(width)
    for words in (
        "user_click_rate", "most frequent", "Rejected", "below threshold", "POST /x server", "└─ plan", "10:11:12.345",
        "api_requests_total", "→  1", "exemplar", "0.123", "make serve", "more columns", "7 values", "1,498", "1.84 s",
    ):  # fmt: skip
        assert words in text
    assert max(map(len, text.split("6 By hand")[0].splitlines())) <= width


def test_ids_have_one_colour_each() -> None:
    """The request's id and the trace's id are in their own colour wherever they occur; another's id is not."""
    text = page(140, colours=True)
    request, trace = "\x1b[1;30;106m", "\x1b[1;30;103m"
    assert text.count(f"{request} {REQUEST} ") == 3
    assert text.count(f"{request}{REQUEST}") == 1
    assert text.count(f"{trace} {TRACE} ") == 5
    assert text.count(f"{trace}{TRACE[:8]}…") == 1
    assert f"{request}other" not in text


def test_path_is_shown_only_where_it_says_more() -> None:
    """A log line's path is left out where it equals its route, and long values are cut."""
    text = page(140)
    assert "path=/x" not in text
    assert "path=/y" in text
    assert "n" * 48 + "…" in text


def test_words_of_others_are_not_markup() -> None:
    """A description with brackets is printed as it is, not taken for a style."""
    assert "[bold]most frequent" in page(140)


def test_all_columns_when_they_fit() -> None:
    """A table that fits is shown whole, and nothing says that columns are left out."""
    narrow = replace(report(), table=(("id", "x"), ("1", "2")))
    assert "more columns" not in page(100, narrow)


def test_failure_is_one_line_after_the_tail() -> None:
    """A failure ends with one line of its own, after the end of the service's log."""
    console = Console(file=StringIO(), width=40, color_system=None)
    with console.capture() as screen:
        print_failure(console, "it broke\nbadly", ["a log line that is longer than the screen is wide", "[bold]last"])
    assert screen.get().splitlines() == [
        "  a log line that is longer than the screen is wide",
        "  [bold]last",
        "feature-agent demo: it broke badly",
    ]


# --------------------------------------------------------------------------------------------------- commands, process


def test_commands_name_the_key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands read the key from the data folder, quoted for a shell, and use the port of `make serve`."""
    folder = tmp_path / "my data"
    text = "\n".join(manual_commands("A sentence", "high", folder))
    assert f"KEY=$(cat '{folder}/development.key')" in text
    assert "http://127.0.0.1:8000/api/v1/extract-features" in text
    assert '"quality_threshold": "high"' in text


def test_interpreter_is_named_as_one_would_type_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter below the working folder is named by its relative path, another one by its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.executable", str(tmp_path / ".venv/bin/python"))
    assert manual_commands("A sentence", "low", None)[1].startswith(".venv/bin/python -m")
    monkeypatch.setattr("sys.executable", "/elsewhere/python3")
    assert manual_commands("A sentence", "low", None)[1].startswith("python3 -m")


def test_environment_of_the_service() -> None:
    """Settings of the shell do not reach the service, proxies do not stand before the collector, the rest stays."""
    shell = {
        "PATH": "/bin", "DATABASE_URL": "postgresql://real", "OTEL_TRACES_SAMPLER": "always_off", "http_proxy": "http://p",
        "PRIMARY_MODEL": "openai:x", "PYTHONPATH": "/more",
    }  # fmt: skip
    environment = service_environment(shell, {"PORT": "1"})
    assert set(environment) == {"PATH", "PYTHONPATH", "PYTHONUNBUFFERED", "PORT"}
    assert environment["PYTHONPATH"].endswith(":/more")


def test_free_ports_differ() -> None:
    """Ports taken together are different ones."""
    assert len(set(free_ports(5))) == 5
