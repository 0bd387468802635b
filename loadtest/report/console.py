"""A verdict as a few lines for a terminal."""

from __future__ import annotations

from typing import TextIO

from loadtest.report.formats import NOTHING, number, one_line
from loadtest.report.gates import cases, headline
from loadtest.verdict import Check, Outcome, Verdict

WORDS: dict[Outcome, str] = {"pass": "pass", "fail": "FAIL", "not_measured": "not measured"}
COLOURS: dict[Outcome, str] = {"pass": "32", "fail": "31", "not_measured": "33"}
HEADS = ("outcome", "gate", "measured", "allowed")


def write(verdict: Verdict, stream: TextIO) -> None:
    """Write a verdict to a stream: in colours on a terminal, and what its encoding lacks as escapes."""
    words = render(verdict, colour=stream.isatty())
    encoding = stream.encoding or "utf-8"
    stream.write(words.encode(encoding, "backslashreplace").decode(encoding))


def render(verdict: Verdict, *, colour: bool = False) -> str:
    """Write a line for each gate, the sentences of those that did not hold, and the verdict last."""
    checks = cases(verdict)
    rows = [HEADS, *(_row(check) for check in checks)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(HEADS))]
    lines = [_line(HEADS, widths)]
    for check, row in zip(checks, rows[1:], strict=True):
        line = _line(row, widths)
        lines.append(line.replace(row[0], _paint(row[0], check.outcome), 1) if colour else line)
        if check.outcome != "pass":
            lines.append(f"  {one_line(check.sentence)}")
    last = WORDS[verdict.verdict]
    lines.append(f"{_paint(last, verdict.verdict) if colour else last}: {headline(verdict)}")
    return "\n".join(lines) + "\n"


def _row(check: Check) -> tuple[str, str, str, str]:
    """Write the cells of one gate."""
    measured, allowed = (number(value).replace(NOTHING, "-") for value in (check.measured, check.allowed))
    return WORDS[check.outcome], one_line(check.gate), measured, allowed


def _line(cells: tuple[str, str, str, str], widths: list[int]) -> str:
    """Align the cells: words to the left, numbers to the right."""
    outcome, gate, measured, allowed = cells
    return f"{outcome:<{widths[0]}}  {gate:<{widths[1]}}  {measured:>{widths[2]}}  {allowed:>{widths[3]}}"


def _paint(words: str, outcome: Outcome) -> str:
    """Colour a word."""
    return f"\x1b[{COLOURS[outcome]}m{words}\x1b[0m"
