"""The report of a load test as a page and as Markdown: complete, readable without colours, safe with any text."""

from __future__ import annotations

import ast
import base64
import hashlib
import re
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest

import loadtest.report
from loadtest.report.document import (
    Band,
    Bound,
    Column,
    Document,
    LineChart,
    Section,
    Series,
    Table,
    Text,
)
from loadtest.report.html_page import MAX_ROWS, to_html
from loadtest.report.markdown import to_markdown
from loadtest.report.page import document, render
from loadtest.report.service_charts import cores
from loadtest.results import Requests, Run, ServicePoint
from loadtest.verdict import Check, Verdict
from tests.unit.test_loadtest_report_samples import (
    EXTRACT,
    OBJECTIVES,
    durations,
    failing,
    passing,
    run,
    stage,
    unmeasured,
    verdict,
)

MARKUP = """</title></style><script>alert(1)</script><img src=x onerror="a()">'"]]>-->"""
HOSTILE = MARKUP + "\x00\x1b[2J\ud800\u202e|`*_[x](javascript:y)"
LIMIT = 500_000
SECTIONS = [
    "Reasons", "Gates", "Load and answers", "Latency by stage", "Service over time", "Requests by route", "SLOs",
    "Stages", "Extractions", "Machine and service", "Failures",
]  # fmt: skip


def parsed(page: str) -> ET.Element:
    """The page as a tree: it is well-formed XML below its first line."""
    first, _, rest = page.partition("\n")
    assert first == "<!DOCTYPE html>"
    page.encode()
    return ET.fromstring(rest)  # noqa: S314 - our own


def words(element: ET.Element) -> str:
    """All text of an element, with single spaces."""
    return " ".join("".join(element.itertext()).split())


def tables(root: ET.Element) -> dict[str, list[list[str]]]:
    """The rows of each table of a page by its caption."""
    found: dict[str, list[list[str]]] = {}
    for table in root.iter("table"):
        caption = table.find("caption")
        assert caption is not None
        found[words(caption)] = [[words(cell) for cell in row] for row in table.iter("tr")]
    return found


def charts(root: ET.Element) -> dict[str, ET.Element]:
    """The figures of a page by their title."""
    found: dict[str, ET.Element] = {}
    for figure in root.iter("figure"):
        title = figure.find("svg/title")
        assert title is not None
        found[words(title)] = figure
    return found


@pytest.mark.parametrize(
    ("sample", "title", "said"),
    [
        (passing, "Pass", "Every gate held: 6 of 6."),
        (failing, "Fail", "3 of 6 gates did not hold. 1 could not be measured."),
        (unmeasured, "Not measured", "This run says neither yes nor no. 2 of 2 gates could not be measured."),
    ],
)
def test_page_begins_with_the_verdict(sample: object, title: str, said: str) -> None:
    """The first thing below the title is the verdict as word, sentence and shape."""
    assert callable(sample)
    judged, measured = sample()
    root = parsed(render(judged, [measured], OBJECTIVES))
    box = root.find("body/header/div")
    assert box is not None
    assert (words(box), box.get("class")) == (f"{title}{said}", f"verdict {judged.verdict}")
    assert box.find("svg/path") is not None
    assert root.findtext("head/title") == f"{title}: Load test of feature-agent: steps"


def test_shapes_of_outcomes_differ() -> None:
    """Without colours a pass, a fail and a run that was not measured have different shapes."""
    shapes: set[str] = set()
    for judged, measured in (passing(), failing(), unmeasured()):
        box = parsed(render(judged, [measured])).find("body/header/div/svg/path")
        assert box is not None
        shapes.add(box.attrib["d"])
    assert len(shapes) == 3


def test_page_has_every_section_in_order() -> None:
    """The page goes from the verdict to the details, and its list of sections leads to each of them."""
    judged, measured = failing()
    root = parsed(render(judged, [measured], OBJECTIVES))
    assert [words(heading) for heading in root.iter("h2")] == SECTIONS
    ids = {heading.get("id") for heading in root.iter("h2")}
    assert [link.attrib["href"].removeprefix("#") in ids for link in root.iter("a")] == [True] * len(SECTIONS)
    assert "Reasons" not in render(passing()[0], [passing()[1]])


def test_reasons_and_gates_are_complete() -> None:
    """Each reason is a sentence of the list, each gate a row with numbers, outcome in words and sentence."""
    judged, measured = failing()
    root = parsed(render(judged, [measured]))
    assert [words(item) for item in root.findall("body/main/section/ul/li")][:4] == [
        one.sentence for one in judged.reasons
    ]
    head, *rows = tables(root)["What the run was judged by"]
    assert head == ["Gate", "Outcome", "Measured", "Allowed", "In words"]
    assert rows[0] == ["slo:api-latency-read", "Fail", "91.27", "99", judged.checks[0].sentence]
    assert [row[1] for row in rows] == ["Fail", "Fail", "Fail", "Pass", "Pass", "Not measured"]
    assert rows[5][2:4] == ["—", "10"]


def test_a_reason_without_a_gate_has_a_row() -> None:
    """A reason that no gate of the table stands for is not lost, and the headline counts it."""
    judged, measured = unmeasured()
    judged = msgspec.structs.replace(judged, checks=[])
    page = parsed(render(judged, [measured]))
    assert [row[0] for row in tables(page)["What the run was judged by"][1:]] == ["machine", "slo:api-latency-read"]
    assert "2 of 2 gates could not be measured" in words(page)


def test_tables_of_a_run() -> None:
    """Routes, stages, extractions and failures are there with the numbers of the records, as people read them."""
    judged, measured = failing()
    found = tables(parsed(render(judged, [measured], OBJECTIVES)))
    assert [row[0] for row in found["Requests by route, client side"][1:]][:2] == [
        "GET /api/v1/extraction/{extraction_id}/status", EXTRACT,
    ]  # fmt: skip
    assert found["Clients by stage"][6] == [
        "80/s", "1 min", "80", "48", "4,800", "4,800", "4,032", "768", "12 ms", "93 ms",
    ]  # fmt: skip
    assert found["Audit of extractions"][1:] == [
        ["Accepted", "12,792"], ["Completed", "12,787"], ["Failed", "3"], ["Lost", "2"], ["Doubled", "0"],
    ]  # fmt: skip
    assert [row[1] for row in found["Failures"][1:]] == ["1,204", "412", "37"]
    assert found["SLOs over the whole run"][1][2:] == ["99.5 %", "98.1 %", "21,300", "97.91 %", "21,300"]
    assert ["CPU pressure before and after", "0.8 % and 2.4 %"] in found["Conditions of the measurement"]


def test_routes_leave_out_the_warm_up() -> None:
    """The routes' table has no request of the warm-up, and every answer but 2xx and 3xx is a failure."""
    slow = Requests("GET", "/x", "200", 5, {"9000": 5})
    fast = [Requests("GET", "/x", "200", 97, {"10": 97}), Requests("GET", "/x", "599", 3, {"2000": 3})]
    stages = [
        msgspec.structs.replace(stage(0, 2, name="warm-up"), requests=[slow]),
        msgspec.structs.replace(stage(1, 10), requests=fast),
    ]
    found = tables(parsed(render(passing()[0], [run(stages)])))["Requests by route, client side"]
    assert found[1:] == [["GET /x", "100", "3", "10 ms", "10 ms", "2 s", "2 s"]]


def test_charts_of_a_run() -> None:
    """Each chart has a title, a description with its numbers for a screen reader, and the bounds drawn in."""
    judged, measured = failing()
    found = charts(parsed(render(judged, [measured], OBJECTIVES)))
    assert list(found) == [
        "Arrival rate by stage", "Requests by status and stage",
        "GET /api/v1/extraction/{extraction_id}/status", EXTRACT, "GET /api/v1/extractions", "POST /api/v1/datasets",
        "CPU of all processes", "Memory of the process with the most", "Requests in flight",
        "Extractions queued and running", "Wait in the queue",
    ]  # fmt: skip
    assert "achieved: from 2 clients/s to 51 clients/s, at the end 48 clients/s." in words(
        found["Arrival rate by stage"]
    )
    assert "SLO: 95 % within 10 s" in [words(text) for text in found[EXTRACT].iter("text")]
    assert "limit 1,024 MiB" in [words(text) for text in found["Memory of the process with the most"].iter("text")]
    assert not [text for text in found["POST /api/v1/datasets"].iter("text") if "SLO" in words(text)]
    assert [rect.findtext("title") for rect in found["Wait in the queue"].iter("rect")] == [
        "warm-up", "10/s", "20/s", "40/s", "60/s", "80/s",
    ]  # fmt: skip


def test_status_bars_show_the_rarest() -> None:
    """One failure among thousands of answers is still drawn, and counted in the description."""
    requests = [Requests("GET", "/x", "200", 99_999, {"5": 99_999}), Requests("GET", "/x", "503", 1, {"5": 1})]
    measured = run([msgspec.structs.replace(stage(0, 10), requests=requests)])
    figure = charts(parsed(render(passing()[0], [measured])))["Requests by status and stage"]
    bars = [rect for rect in figure.iter("rect") if "bad" in rect.get("class", "")]
    assert [float(bar.attrib["height"]) for bar in bars if bar.get("width") != "14"] == [2.0]
    assert "10/s: 200 99,999 requests, 503 1 requests." in words(figure)


def test_cpu_is_the_slope_of_its_counter() -> None:
    """Cores are seconds of CPU a second; where a restart lets the counter fall there is a gap, no negative number."""

    def point(at: float, used: float) -> ServicePoint:
        return ServicePoint(at, 1, used, 100, 0, 0, 0, 0)

    assert cores([point(0, 1), point(2, 4), point(3, 0.5), point(4, 1)]) == [(2, 1.5), (3, None), (4, 0.5)]


def test_page_needs_nothing_else() -> None:
    """The page has no script and no address, and its policy lets in its own style sheet alone."""
    judged, measured = failing()
    root = parsed(render(judged, [measured], OBJECTIVES))
    assert not [
        element.tag for element in root.iter() if element.tag in {"script", "link", "img", "iframe", "object", "form"}
    ]
    assert not [
        name for element in root.iter() for name in element.attrib if name in {"src", "style"} or name.startswith("on")
    ]
    assert [link.get("href", "")[0] for link in root.iter("a")] == ["#"] * len(SECTIONS)
    style = root.findtext("head/style") or ""
    assert not re.search(r"url\(|@import|@font-face", style)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policies = [
        meta.get("content") for meta in root.iter("meta") if meta.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policies == [f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"]


def test_page_has_what_a_screen_reader_needs() -> None:
    """A language, one h1, captions, header cells with a scope, named regions, and ids that are there once."""
    judged, measured = failing()
    root = parsed(render(judged, [measured, measured], OBJECTIVES))
    ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert len(ids) == len(set(ids))
    assert (root.get("lang"), len(list(root.iter("h1")))) == ("en", 1)
    named = [key for element in root.iter() for key in element.get("aria-labelledby", "").split()]
    assert set(named) <= set(ids)
    assert {heading.get("scope") for heading in root.iter("th")} == {"col", "row"}
    drawings = [svg for svg in root.iter("svg") if svg.get("aria-hidden") != "true"]
    assert all(svg.get("role") == "img" and svg.findtext("title") and svg.findtext("desc") for svg in drawings)
    assert len(drawings) == 22


def test_several_runs_have_sections_of_their_own() -> None:
    """Of several runs each has a heading with its number, and its sections are one level below."""
    judged, measured = passing()
    root = parsed(render(judged, [measured, measured, measured]))
    assert [words(heading) for heading in root.iter("h2")] == ["Gates", "Run 1 of 3", "Run 2 of 3", "Run 3 of 3"]
    assert [words(heading) for heading in root.iter("h3")] == SECTIONS[2:] * 3


def hostile() -> tuple[Verdict, Run]:
    """A run in which every text is an attack."""
    judged, measured = failing()
    bad = [Requests(HOSTILE, HOSTILE, HOSTILE, 5, {"5": 5})]
    stages = [msgspec.structs.replace(stage(index, 5, name=HOSTILE), requests=bad) for index in range(2)]
    measured = msgspec.structs.replace(
        measured,
        id=HOSTILE, host=HOSTILE, service_version=HOSTILE, shape=HOSTILE, scenario=HOSTILE, scenario_digest=HOSTILE,
        stages=stages, failures={HOSTILE: 3}, stopped_early=HOSTILE,
        extractions=msgspec.structs.replace(measured.extractions, lost=[HOSTILE], doubled=[HOSTILE]),
        machine=msgspec.structs.replace(measured.machine, system=HOSTILE, python=HOSTILE, foreign_names=[HOSTILE]),
        service=msgspec.structs.replace(
            measured.service,
            indicators=[msgspec.structs.replace(one, slo=HOSTILE) for one in measured.service.indicators],
        ),
    )  # fmt: skip
    checks = [Check(HOSTILE, "fail", float("inf"), float("nan"), HOSTILE)]
    judged = msgspec.structs.replace(verdict("fail", checks), shape=HOSTILE, host=HOSTILE, run_id=HOSTILE, began=1e300)
    return judged, measured


def test_hostile_texts_stay_texts() -> None:
    """Markup, control characters, half surrogates and marks that turn text around are shown as what they are."""
    judged, measured = hostile()
    page = render(judged, [measured])
    root = parsed(page)
    assert not [element for element in root.iter() if element.tag in {"script", "img"}]
    assert len(list(root.iter("style"))) == 1
    assert r"<script>alert(1)</script>" in words(root)
    assert r"-->\x00\x1b[2J\ud800\u202e|" in words(root)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", page)


def test_hostile_texts_stay_texts_in_markdown() -> None:
    """In Markdown no text of a run makes a link, an element or a further cell of a table."""
    judged, measured = hostile()
    text = to_markdown(document(judged, [measured]))
    text.encode()
    assert not re.search(r"(?<!\\)[<`]", text)
    assert not re.search(r"(?<!\\)\]\(", text)
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    gate = next(row for row in rows if "**Fail**" in row)
    assert len(re.findall(r"(?<!\\)\|", gate)) == 6


def test_page_stays_small() -> None:
    """Ten long runs with many stages, routes, sentences and megabytes of error text are a page below 500 KB."""
    judged, _ = failing()
    requests = [
        Requests("GET", f"/api/v1/{'x' * 80}/{index}", status, 50, durations(50, 20 + index))
        for index in range(40)
        for status in ("200", "404", "503", "599")
    ]
    stages = [msgspec.structs.replace(stage(index, 2, name=f"stage {index}"), requests=requests) for index in range(8)]
    failures = {f"{index}: {'x' * 20_000}": index for index in range(300)}
    measured = run(stages, failures=failures, lost=[f"{index}-{'y' * 3000}" for index in range(2000)])
    page = render(judged, [measured] * 10, OBJECTIVES)
    assert len(page.encode()) < LIMIT
    text = words(parsed(page))
    assert "Run 10 of 10" in text
    assert re.search(r"Of 10 runs the last \d are shown", text)


def test_a_long_table_says_what_it_leaves_out() -> None:
    """Rows beyond the limit are counted below the table, in both forms."""
    table = Table("Many", (Column("Row"),), tuple((str(index),) for index in range(MAX_ROWS + 1234)))
    report = Document("Report", None, (Section("All", (table,)),))
    assert "1,234 more rows are left out here." in words(parsed(to_html(report)))
    assert "1,234 more rows are left out here." in to_markdown(report)


def test_an_empty_run_is_a_page() -> None:
    """A run that ended before its first stage says what is missing instead of failing."""
    judged, measured = unmeasured()
    service = msgspec.structs.replace(measured.service, points=[], indicators=[])
    empty = msgspec.structs.replace(measured, stages=[], service=service)
    text = words(parsed(render(judged, [empty])))
    for said in ("No request was measured.", "no stage began.", "no SLO had an event.", "not read often enough"):
        assert said in text
    assert "2 of 2 gates could not be measured" in words(parsed(render(judged, [])))


def test_markdown_has_texts_and_tables() -> None:
    """Markdown has the verdict, reasons and tables; charts are left out, or named with a link to the page."""
    judged, measured = failing()
    report = document(judged, [measured], OBJECTIVES)
    plain, linked = to_markdown(report), to_markdown(report, "https://ci.example/report.html")
    assert plain.startswith("# Load test of feature-agent: steps\n\n**Fail.** 3 of 6 gates did not hold.")
    assert "| lost | **Fail** | 2 | 0 | 2 accepted extractions" in plain
    assert "| ---: |" in plain
    assert "Chart" not in plain
    assert "## Load and answers" not in plain
    assert "Chart: [Wait in the queue](<https://ci.example/report.html>)" in linked


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1. first", "1\\. first"), ("- item", "\\- item"), ("# head", "\\# head"), ("a|b", "a\\|b"),
        ("<b>&amp;", "\\<b\\>&amp;amp;"), ("a\nb", "a b"),
    ],
)  # fmt: skip
def test_markdown_paragraphs_are_paragraphs(text: str, expected: str) -> None:
    """A text that looks like a list, a heading or markup stays a paragraph on one line."""
    report = Document("T", None, (Section("S", (Text(text),)),))
    assert to_markdown(report).split("\n\n")[-1] == f"{expected}\n"


def test_lines_have_gaps_steps_bands_and_bounds() -> None:
    """A line has a gap where there is no value, a step holds its value, and a bound above all values is shown."""
    series = (Series("replicas", ((0.0, 2.0), (60.0, 4.0), (120.0, None), (180.0, 4.0), (240.0, 2.0))),)
    chart = LineChart(
        title="Replicas", series=series, step=True, bands=(Band(0, 120, "rise"),), bounds=(Bound(10, "maximum 10"),)
    )
    figure = charts(parsed(to_html(Document("T", None, (Section("S", (chart,)),)))))["Replicas"]
    (path,) = [path.attrib["d"] for path in figure.findall("svg/path")]
    assert path == "M62.0 182.0H164.0V142.0 M368.0 142.0H470.0V182.0"
    marks = [words(text) for text in figure.iter("text")]
    assert {"rise", "maximum 10", "10", "0:00", "4:00"} <= set(marks)


def test_report_needs_no_other_library() -> None:
    """The report imports the standard library and msgspec alone: the generator's image holds no plotting library."""
    allowed = sys.stdlib_module_names | {"msgspec", "loadtest"}
    imported: set[str] = set()
    for file in Path(loadtest.report.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            imported |= {name.split(".")[0] for name in names}
    assert "loadtest" in imported
    assert imported <= allowed
