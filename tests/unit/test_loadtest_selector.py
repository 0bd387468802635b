"""Selectors match as in Prometheus, and scrapes of either text format are read as they are written."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from loadtest.errors import BadInput
from loadtest.measure.selector import Series, parse_exposition, parse_selector


def picked(text: str, **labels: str) -> bool:
    """Whether a selector of `m` picks a series with these labels."""
    return parse_selector(text).picks(Series("m", tuple(sorted(labels.items()))))


@pytest.mark.parametrize(
    ("text", "labels", "matches"),
    [
        ("m", {}, True),
        ("m", {"a": "1"}, True),
        ("m{}", {"a": "1"}, True),
        (" m { } ", {}, True),
        ("n", {}, False),
        ('m{a="1"}', {"a": "1"}, True),
        ('m{a="1"}', {"a": "11"}, False),
        ('m{a="1"}', {}, False),
        ('m{a=""}', {}, True),
        ('m{a=""}', {"a": "1"}, False),
        ('m{a!=""}', {}, False),
        ('m{a!="1"}', {}, True),
        ('m{a!="1"}', {"a": "1"}, False),
        ('m{a=~"1"}', {"a": "11"}, False),
        ('m{a=~"1.*"}', {"a": "11"}, True),
        ('m{a=~".*"}', {}, True),
        ('m{a=~".+"}', {}, False),
        ('m{a=~"x|"}', {}, True),
        ('m{a!~"x|y.*"}', {"a": "yes"}, False),
        ('m{a!~"x|y.*"}', {"a": "maybe"}, True),
        ('m{a!~"x"}', {}, True),
        ('m{a!~".*"}', {}, False),
        ('m{a=~"a.b"}', {"a": "a\nb"}, True),
        ('m{a=~"1|2",b!="3"}', {"a": "2", "b": "4"}, True),
        ('m{a=~"1|2",b!="3"}', {"a": "2", "b": "3"}, False),
        ('m{a="1", b="2" , }', {"a": "1", "b": "2"}, True),
        (r'm{a="x\"y\\z\n"}', {"a": 'x"y\\z\n'}, True),
        (r'm{a=~"x\\.y"}', {"a": "x.y"}, True),
        (r'm{a=~"x\\.y"}', {"a": "xzy"}, False),
        ('m{a="}{,"}', {"a": "}{,"}, True),
        ('m{a="b",a!="c"}', {"a": "b"}, True),
    ],
)
def test_a_selector_matches_as_in_prometheus(text: str, labels: dict[str, str], matches: bool) -> None:  # noqa: FBT001
    """A missing label is an empty one, patterns match whole values, and conditions are all met at once."""
    assert picked(text, **labels) is matches


@pytest.mark.parametrize(
    "text",
    [
        *("", "{}", '{a="1"}', "1m", "m{", "m}", "m{a}", 'm{a="1" b="2"}', "m{a=1}", 'm{a=="1"}', 'm{a="1"', "m{,}"),
        *("m[5m]", "rate(m[5m])", "m offset 5m", 'm{a="1"} > 0', "a + b", r'm{a=~"\d"}', 'm{a=~"("}', "m{a='1'}"),
    ],
)
def test_what_is_no_selector(text: str) -> None:
    """Anything but a name with conditions is bad input, and the message shows it."""
    with pytest.raises(BadInput) as caught:
        parse_selector(text)
    assert repr(text) in str(caught.value)


def registry() -> CollectorRegistry:
    """Metrics with awkward labels."""
    made = CollectorRegistry()
    counter = Counter("hits_total", "Hits.", ("path",), registry=made)
    counter.labels('a"b\\c\nd}e{').inc(3)
    counter.labels("plain").inc(2.5)
    counter.labels("\u2028 \x85").inc()
    durations = Histogram("took_seconds", "Took.", ("path",), buckets=(0.1, 1, 10), registry=made)
    durations.labels("x").observe(0.5, {"trace_id": "abc", "span": "}"})
    durations.labels("x").observe(50, {"trace_id": "def"})
    return made


@pytest.mark.parametrize("openmetrics", [False, True])
def test_a_scrape_is_read(openmetrics: bool) -> None:  # noqa: FBT001
    """Values and labels are those that were written, in both formats, with escapes, exemplars and odd characters."""
    made = registry()
    text = (generate_openmetrics(made) if openmetrics else generate_latest(made)).decode()
    assert not openmetrics or "# {" in text
    found = parse_exposition(text, ["hits_total", "took_seconds"])
    hits = {series.labels: value for series, value in found.items() if series.name == "hits_total"}
    assert hits == {
        (("path", 'a"b\\c\nd}e{'),): 3.0,
        (("path", "plain"),): 2.5,
        (("path", "\u2028 \x85"),): 1.0,
    }
    took = {dict(series.labels)["le"]: value for series, value in found.items() if series.name == "took_seconds_bucket"}
    assert {float(bound): value for bound, value in took.items()} == {0.1: 0, 1: 1, 10: 1, float("inf"): 2}
    assert found[Series("took_seconds_count", (("path", "x"),))] == 2
    assert found[Series("took_seconds_sum", (("path", "x"),))] == 50.5


@pytest.mark.parametrize(
    ("line", "labels", "value"),
    [
        ("m 1", (), 1),
        ("m 1 1700000000", (), 1),
        ("m 1 1700000000.5", (), 1),
        ("m{} 2", (), 2),
        ('m{a="b"} 3e2 1700000000', (("a", "b"),), 300),
        ('m{a="b"}\t3', (("a", "b"),), 3),
        ('m { a = "b" , c="d", } 4', (("a", "b"), ("c", "d")), 4),
        ('m{c="d",a="b"} 4', (("a", "b"), ("c", "d")), 4),
        ('m{a="b"} 5 # {trace_id="x"} 0.7', (("a", "b"),), 5),
        ('m{a="b"} 5 1700000000 # {trace_id="x"} 0.7 1700000000.1', (("a", "b"),), 5),
        ('m 5 # {trace_id="x"} 0.7', (), 5),
        (r'm{a="\\n"} 6', (("a", "\\n"),), 6),
        (r'm{a="\x"} 6', (("a", "\\x"),), 6),
        ("m +Inf", (), float("inf")),
    ],
)
def test_a_line_is_read(line: str, labels: tuple[tuple[str, str], ...], value: float) -> None:
    """Timestamps and exemplars are no part of a value; spaces and the order of labels mean nothing."""
    assert parse_exposition(line + "\n", ["m"]) == {Series("m", labels): value}


def test_only_what_is_asked_for_is_read() -> None:
    """Other metrics, comments and lines that are none are passed over."""
    text = "# HELP m m 1\n# TYPE m counter\n\nmm 1\nm_other 2\n<html> 3\nm_bucket 4\nm_total 5\nm_created 6\n# EOF\n"
    assert set(parse_exposition(text, ["m"])) == {Series("m_bucket", ()), Series("m_total", ())}


def test_totals() -> None:
    """A total adds up what is picked, with further labels of exactly these values, and nothing is 0."""
    values = parse_exposition('m{a="1",b="x"} 1\nm{a="1",b="y"} 2\nm{a="2"} 4\nm_count{a="1"} 8\n', ["m"])
    assert parse_selector("m").total(values) == 7
    assert parse_selector('m{a="1"}').total(values) == 3
    assert parse_selector("m").total(values, b="y") == 2
    assert parse_selector("m").total(values, "_count") == 8
    assert parse_selector("n").total(values) == 0
