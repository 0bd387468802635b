"""`python -m loadtest.benchmarks.planner`: measure, and print the table."""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from loadtest.benchmarks.planner.workloads import MAX_CHARACTERS, NAMES, SENTENCES, TYPICAL, profile
from service.agents.builtin.plan import make_plan
from service.agents.prompts import build_request, parse, render
from service.features.model import ExtractionOptions, Profile
from service.planning.plan_key import normalise

LENGTHS = (100, 1_000, MAX_CHARACTERS)
COLUMNS = (1, 50, 400)
OPTIONS = ExtractionOptions(max_features=200)


def main() -> int:
    """Measure and print; with `--write`, into the file of the results."""
    parser = argparse.ArgumentParser(description="What planning costs.")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    text = "\n".join(_lines()) + "\n"
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    return 0


def _lines() -> Iterator[str]:
    yield "# What planning by the built-in planner costs\n"
    yield (
        f"`make bench-planner`, CPU in milliseconds: normalising for the plan cache, the prompt and the plan of up to "
        f"{OPTIONS.max_features} features. The dearest of the {len(NAMES)} ways to name columns. "
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}.\n"
    )
    plain = profile(50, "plain")
    typical = median(_milliseconds(TYPICAL, plain, ExtractionOptions()) for _ in range(9))
    yield f"A typical sentence of {len(TYPICAL)} characters on 50 columns, 20 features: {typical:.0f} ms.\n"
    heads = [f"{length} on {columns}" for columns in COLUMNS for length in LENGTHS]
    yield f"| sentence; characters on columns | {' | '.join(heads)} |"
    yield f"| --- | {' | '.join('---:' for _ in heads)} |"
    profiles = {columns: [profile(columns, names) for names in NAMES] for columns in COLUMNS}
    for kind, write in SENTENCES.items():
        cells = (
            max(_milliseconds(write(length), each, OPTIONS) for each in profiles[columns])
            for columns in COLUMNS
            for length in LENGTHS
        )
        yield f"| {kind} | {' | '.join(f'{cell:.0f}' for cell in cells)} |"


def _milliseconds(sentence: str, data: Profile, options: ExtractionOptions) -> float:
    return 1_000 * _seconds(sentence, data, options)


def _seconds(sentence: str, data: Profile, options: ExtractionOptions) -> float:
    started = time.process_time()
    normalise(sentence)
    make_plan(parse(render(build_request(sentence, data, options))))
    return time.process_time() - started


if __name__ == "__main__":
    sys.exit(main())
