"""A verdict as JUnit XML, as Jenkins, GitLab and GitHub's actions read it: one test case for each gate."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

from loadtest.report.formats import NOTHING, number, one_line, visible
from loadtest.report.gates import cases
from loadtest.verdict import Check, Outcome, Verdict

SUITES = "feature-agent load test"
TAGS: dict[Outcome, str] = {"fail": "failure", "not_measured": "error"}


def render(verdict: Verdict) -> str:
    """Write a verdict as JUnit XML: a gate that failed is a failure, one that was not measured an error."""
    checks = cases(verdict)
    counts = {
        "tests": str(len(checks)),
        "failures": str(sum(check.outcome == "fail" for check in checks)),
        "errors": str(sum(check.outcome == "not_measured" for check in checks)),
        "time": f"{max(0.0, verdict.ended - verdict.began):.3f}",
        "timestamp": _timestamp(verdict.began),
    }
    root = _add(None, "testsuites", {"name": SUITES} | counts)
    suite = _add(root, "testsuite", {"name": f"{SUITES}: {one_line(verdict.shape)}", "skipped": "0"} | counts)
    properties = _add(suite, "properties", {})
    for name, value in (("host", verdict.host), ("run_id", verdict.run_id), ("verdict", verdict.verdict)):
        _add(properties, "property", {"name": name, "value": one_line(value)})
    for check in checks:
        _case(suite, check, f"loadtest.{one_line(verdict.shape)}")
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _case(suite: ET.Element, check: Check, group: str) -> None:
    """Add one gate."""
    case = _add(suite, "testcase", {"name": one_line(check.gate), "classname": group, "time": "0"})
    tag = TAGS.get(check.outcome)
    words = f"{visible(check.sentence)}\nMeasured: {_plain(check.measured)}. Allowed: {_plain(check.allowed)}."
    marks = {"message": one_line(check.sentence), "type": check.outcome}
    _add(case, tag or "system-out", marks if tag else {}).text = words


def _add(parent: ET.Element | None, tag: str, attributes: Mapping[str, str]) -> ET.Element:
    """Add an element, or begin a tree."""
    return ET.Element(tag, dict(attributes)) if parent is None else ET.SubElement(parent, tag, dict(attributes))


def _plain(value: float | None) -> str:
    """Write a number, or that there is none."""
    words = number(value)
    return "nothing" if words == NOTHING else words


def _timestamp(epoch: float) -> str:
    """Write a time in UTC as JUnit's schema asks, without a zone."""
    try:
        return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return "1970-01-01T00:00:00"
