"""Answer scenarios, one on each line of standard input, with the controller's decisions at every sync."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable
from typing import cast

import msgspec

from loadtest.errors import BadInput
from loadtest.hpa.forms import read_form
from loadtest.hpa.world import Decision, Scenario, play

BAD_INPUT = 2
"""Exit status."""


class Answer(msgspec.Struct, frozen=True):
    """The decisions of one scenario."""

    id: str
    decisions: list[Decision]


def decide(lines: Iterable[str], write: Callable[[str], object]) -> None:
    """Write a line of decisions for each line with a scenario, bare or as {"scenario": …}; empty lines are skipped."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            write(answer(line, f"line {number}: "))


def answer(line: str, where: str) -> str:
    """Return the line of decisions for one line; raise BadInput with the place in front."""
    try:
        document: object = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadInput(f"{where}not JSON ({error}): write one scenario as a JSON object on each line") from None
    if isinstance(document, dict):
        document = cast("dict[str, object]", document)
        document = document.get("scenario", document)
    scenario = read_form(document, Scenario, where)
    try:
        found = Answer(scenario.id, list(play(scenario)))
    except BadInput as error:
        raise BadInput(f"{where}{error}") from None
    return msgspec.json.encode(found).decode() + "\n"


def main() -> int:
    """Answer standard input on standard output; return the exit status."""
    # What is no UTF-8 passes as surrogates, so that decide can name its line.
    lines = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", errors="surrogateescape")
    try:
        decide(lines, sys.stdout.write)
    except BadInput as error:
        sys.stdout.flush()
        sys.stderr.write(f"{error}\n")
        return BAD_INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main())
