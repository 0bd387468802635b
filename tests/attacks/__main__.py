"""`python -m tests.attacks [NAME …] [--seconds N] [--write]`: attack a real service and measure everybody else."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from tests.attacks.attacks import ATTACKS, Attack
from tests.attacks.judging import RECOVERY_SECONDS, Outcome, table
from tests.attacks.stand import open_stand
from tests.attacks.witness import Witness

PAGE = Path(__file__).parents[2] / "docs/measurements/attacks.md"
HEADING = """# Attacks on availability

Each attack runs against a service of its own on the embedded defaults (API and worker in one process, two cores shared
with the attacker), while an operator's probe asks `/health/live` every 50 ms, another principal reads a status every
100 ms and uploads a small file every 2 s. `make attacks` runs them and writes this page.

Bounds: `/health/live` p95 < 100 ms and max < 1 s, status p95 < 250 ms, upload < 5 s, memory at most 40 MiB above its
start, everything as before within 10 s, no 5xx but 503 and 507.
"""


async def attack(one: Attack, seconds: float, folder: Path) -> Outcome:
    """Run one attack against a fresh service."""
    with open_stand(folder, one.settings) as stand:
        witness = Witness(stand)
        try:
            await witness.prepare()
            async with witness.watching():
                answers = await one.run(stand, seconds)
            await witness.recover(3 * RECOVERY_SECONDS)
        finally:
            await witness.close()
    return Outcome(one, witness.seen, answers, stand.stopped_after)


def main() -> int:
    """Run the attacks that are named, or all; exit status 1 when a bound did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*(one.name for one in ATTACKS), []])
    parser.add_argument("--seconds", type=float, default=15.0, help="of each attack")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    options = parser.parse_args()
    outcomes: list[Outcome] = []
    for one in ATTACKS:
        if options.names and one.name not in options.names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            outcomes.append(asyncio.run(attack(one, options.seconds, Path(folder))))
        print(*list(table(outcomes[-1:]))[2:], sep="\n", flush=True)  # noqa: T201 -- a program's output
    if options.write:
        day = f"{datetime.now(UTC):%Y-%m-%d}"
        PAGE.write_text("\n".join([HEADING, *table(outcomes), "", f"Measured {day}, {options.seconds:g} s each.", ""]))
    return int(any(list(outcome.faults()) for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
