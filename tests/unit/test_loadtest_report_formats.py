"""Numbers as people read them, axes of charts, and the page of a scaling proof, which is made of the same parts."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from loadtest.report.document import Band, Document, LineChart, Part, Point, Section, Series, StackedBars
from loadtest.report.formats import clean, clock, duration_ms, moment, number, percent, quantity, share, span
from loadtest.report.hpa_page import Event, Proof, Scaled, Signal, render_proof
from loadtest.report.html_page import to_html
from loadtest.report.markdown import to_markdown
from loadtest.report.scales import Scale, clock_ticks, linear_ticks, log_ticks, thin
from loadtest.report.svg import describe
from loadtest.verdict import Check


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1234567, "1,234,567"), (1234.5678, "1,234.6"), (99.954, "99.954"), (0.0012345, "0.0012345"), (-2.5, "-2.5"),
        (0, "0"), (12345.678, "12,346"), (1e-12, "0"), (None, "—"), (float("nan"), "—"), (float("-inf"), "—"),
    ],
)  # fmt: skip
def test_numbers_have_five_digits(value: float | None, expected: str) -> None:
    """A number has thousands grouped and five digits that say something; what is no number is a dash."""
    assert number(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.42, "0.42 ms"), (9.96, "9.96 ms"), (12.34, "12.3 ms"), (250, "250 ms"), (999.4, "999 ms"), (999.9, "1 s"),
        (1000, "1 s"), (1234, "1.23 s"), (61_500, "61.5 s"), (123_456, "123 s"), (None, "—"),
    ],
)  # fmt: skip
def test_durations_read_well(value: float | None, expected: str) -> None:
    """Durations are ms below one second and s above, with three digits."""
    assert duration_ms(value) == expected


def test_shares_never_round_up() -> None:
    """One bad event of a million is not 100 %, and 29 of 100 are 29 % in spite of binary fractions."""
    assert share(999_999, 1_000_000) == "99.999 %"
    assert [share(29, 100), share(57, 100), share(1_000_000, 1_000_000), share(0, 7)] == [
        "29 %",
        "57 %",
        "100 %",
        "0 %",
    ]
    assert [share(0, 0), percent(None), percent(0.014)] == ["—", "—", "1.4 %"]


def test_times_read_well() -> None:
    """Stretches have at most two units, moments are in UTC, clocks count from zero; an impossible time is a dash."""
    assert [span(seconds) for seconds in (0.4, 59.6, 90, 7_500, 3_600)] == [
        "0 s",
        "1 min",
        "1 min 30 s",
        "2 h 5 min",
        "1 h",
    ]
    assert [clock(seconds) for seconds in (0, 65, 3_725)] == ["0:00", "1:05", "1:02:05"]
    assert [moment(0), moment(1e300), moment(float("nan"))] == ["1970-01-01 00:00:00 UTC", "—", "—"]
    assert [quantity(1234.5, "MiB"), quantity(0.5, ""), quantity(65, "clock")] == ["1,234 MiB", "0.5", "1:05"]


def test_long_texts_are_cut() -> None:
    """An error text of a megabyte is cut, and how much is missing is said."""
    cut = clean("x" * 1_000_400)
    assert len(cut) < 450
    assert cut.endswith("… (1,000,000 more characters)")


@pytest.mark.parametrize(
    ("high", "whole", "expected"),
    [
        (80, False, [0, 20, 40, 60, 80]), (81, False, [0, 25, 50, 75, 100]), (0, False, [0, 1]),
        (10, False, [0, 2.5, 5, 7.5, 10]), (10, True, [0, 5, 10]), (3, True, [0, 1, 2, 3]),
        (0.3, False, [0, 0.1, 0.2, 0.3]),
    ],
)  # fmt: skip
def test_linear_marks_are_round(high: float, whole: bool, expected: list[float]) -> None:  # noqa: FBT001 - a case
    """Marks begin at 0, hold the highest value, and are whole for things that are counted."""
    assert linear_ticks(high, whole=whole) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (4, 9000, [1, 10, 100, 1000, 10_000]), (30, 80, [20, 50, 100]), (5, 5, [1, 2, 5, 10]), (1e-9, 100, None),
    ],
)  # fmt: skip
def test_log_marks_hold_the_values(low: float, high: float, expected: list[float] | None) -> None:
    """Marks are powers of ten, with 2 and 5 where the values are close, and not more than ten for the widest range."""
    ticks = log_ticks(low, high)
    assert expected is None or ticks == pytest.approx(expected)
    assert 2 <= len(ticks) <= 10
    assert ticks[-1] >= high


def test_clock_marks_are_round_times() -> None:
    """Ten minutes have marks every two, an hour and a half every fifteen."""
    assert clock_ticks(0, 600) == [0, 120, 240, 360, 480, 600]
    assert clock_ticks(10, 5_400) == [900, 1800, 2700, 3600, 4500, 5400]


def test_values_outside_are_drawn_at_the_edge() -> None:
    """A value beyond the axis is at its end; the middle of a log axis is the geometric mean."""
    assert [Scale(0, 10, 100, 0).place(value) for value in (-5, 0, 5, 99)] == [100, 100, 50, 0]
    assert Scale(1, 100, 0, 10, log=True).place(10) == pytest.approx(5)
    assert Scale(1, 100, 0, 10, log=True).place(0) == 0


def test_thinned_lines_keep_peaks_and_gaps() -> None:
    """Of 10,000 points 200 are left, among them the only peak, the only low and the gap."""
    points: list[Point] = [(float(x), 5.0) for x in range(10_000)]
    points[1234], points[7777] = (1234.0, 99.0), (7777.0, -3.0)
    points[5000:5200] = [(float(x), None) for x in range(5000, 5200)]
    kept = thin(points, 200)
    assert len(kept) <= 200
    assert {(1234.0, 99.0), (7777.0, -3.0)} <= set(kept)
    assert None in [y for _, y in kept]
    assert [x for x, _ in kept] == sorted(x for x, _ in kept)


def test_bars_are_as_high_as_their_values() -> None:
    """Parts stand on each other without a gap, and parts of the same meaning differ in strength."""
    bars = StackedBars(
        title="Bars",
        categories=("a", "b"),
        parts=(Part("200", (60.0, 0.0), "good"), Part("202", (20.0, 100.0), "good"), Part("503", (20.0, 0.0), "bad")),
    )
    page = to_html(Document("T", None, (Section("S", (bars,)),)))
    (drawing,) = ET.fromstring(page.partition("\n")[2]).findall(".//figure/svg")  # noqa: S314 - our own
    boxes = [box for box in drawing.iter("rect") if box.get("class", "").startswith("part")]
    assert [float(box.attrib["height"]) for box in boxes] == [120, 40, 40, 200]
    assert [float(box.attrib["y"]) for box in boxes] == [102, 62, 22, 22]
    assert [box.get("fill-opacity") for box in boxes] == [None, "0.7", None, "0.7"]
    assert describe(bars) == "a: 200 60, 202 20, 503 20. b: 202 100."


def test_lines_differ_without_colour() -> None:
    """Over categories each line has a marker of its own; a line that was asked for is dashed."""
    lines = tuple(Series(name, ((0.0, 1.0), (1.0, 2.0)), dashed=name == "p99") for name in ("p50", "p95", "p99"))
    chart = LineChart(title="Lines", series=lines, categories=("a", "b"))
    page = to_html(Document("T", None, (Section("S", (chart,)),)))
    (drawing,) = ET.fromstring(page.partition("\n")[2]).findall(".//figure/svg")  # noqa: S314 - our own
    dots = [path.attrib["d"].lstrip("M0123456789. ") for path in drawing.iter("path") if "dot" in path.get("class", "")]
    assert len(dots) == 6
    assert len(set(dots)) == 3
    assert len([path for path in drawing.iter("path") if path.get("stroke-dasharray")]) == 1


def proof() -> Proof:
    """A deployment that went from 2 to 4 replicas and back."""
    return Proof(
        title="Scaling proof of feature-agent",
        outcome="fail",
        headline="The API did not come back to 2 replicas.",
        began=0.0,
        ended=600.0,
        reasons=("feature-agent had 3 replicas 5 min after the peak; 2 are wanted.",),
        checks=(Check("scale_down", "fail", 3, 2, "3 replicas were left."),),
        asked=((0.0, 10.0), (300.0, 60.0), (600.0, 10.0)),
        achieved=((0.0, 10.0), (300.0, 55.0), (600.0, 10.0)),
        deployments=(Scaled("feature-agent", ((0.0, 2.0), (120.0, 4.0)), ((0.0, 2.0), (150.0, 4.0)), 2, 6),),
        signals=(Signal("CPU use", "%", ((0.0, 30.0), (300.0, 95.0)), 70.0),),
        phases=(Band(0, 120, "calm"), Band(120, 400, "peak")),
        events=(Event(150, "4 replicas are ready"), Event(121, "scaled from 2 to 4")),
    )


def test_scaling_proof_is_a_page() -> None:
    """The proof has checks, a step chart within the allowed range to its end, the target, and events in their order."""
    page = to_html(render_proof(proof()))
    root = ET.fromstring(page.partition("\n")[2])  # noqa: S314 - our own
    titles = [svg.findtext("title") for svg in root.findall(".//figure/svg")]
    assert titles == ["Arrival rate", "Replicas of feature-agent", "CPU use"]
    replicas = root.findall(".//figure")[1]
    assert "allowed: 2 to 6" in "".join(replicas.itertext())
    (area,) = replicas.findall("svg/polygon")
    assert area.get("points") == "62.0,22.0 470.0,22.0 470.0,155.3 62.0,155.3"
    lines = [path.attrib["d"] for path in replicas.findall("svg/path")]
    assert all(line.endswith("L470.0 88.7") and "V88.7" in line for line in lines)
    assert "target 70 %" in [text.text for text in root.iter("text")]
    assert page.index("scaled from 2 to 4") < page.index("4 replicas are ready")


def test_scaling_proof_is_markdown() -> None:
    """The same proof as Markdown has its outcome, checks and events."""
    text = to_markdown(render_proof(proof()))
    assert "**Fail.** The API did not come back to 2 replicas." in text
    assert "| scale\\_down | **Fail** | 3 | 2 | 3 replicas were left. |" in text
    assert "| 2:01 | scaled from 2 to 4 |\n| 2:30 | 4 replicas are ready |" in text
