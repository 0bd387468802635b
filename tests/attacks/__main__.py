"""`python -m tests.attacks [NAME …] [--seconds N] [--short] [--write]`: attack a service, measure everybody else."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

from tests.attacks.attacks import ATTACKS, Answers, Attack, perform
from tests.attacks.judging import BOUNDS, SHORT_BOUNDS, Bounds, Outcome, table
from tests.attacks.stand import Stand, open_stand, stop
from tests.attacks.witness import Witness

PAGE = Path(__file__).parents[2] / "docs/measurements/attacks.md"
SHORT_SECONDS = 4.0
STOP_AFTER_SECONDS = 3.0
"""From the start of an attack, and of its process, to SIGTERM."""
HEADING = f"""# Attacks on availability

Each attack runs against a service of its own on the embedded defaults (API and worker in one process, two cores shared
with the attacker), while an operator's probe asks `/health/live` every 50 ms, another principal reads a status every
100 ms and uploads a small file every 2 s. After it, the time is measured until all three are as quick as before, and
from SIGTERM to the end of the service, while the attack goes on. `make attacks` runs them and writes this page.

Bounds: {BOUNDS.in_words()}; no 5xx but 503 and 507. Memory is that of the service's process; the processes that read
files and compute have their own limit (`ENGINE_URL`) and their own column.
"""


async def attack(one: Attack, seconds: float, stand: Stand, bounds: Bounds) -> Outcome:
    """Run one attack against a running service."""
    witness = Witness(stand)
    try:
        await witness.prepare()
        async with witness.watching():
            answers = await _apart(one, stand, seconds)
        await witness.recover(3 * bounds.recovery, bounds.health_p95, bounds.upload_max / 5)
    finally:
        await witness.close()
    return Outcome(one, witness.seen, answers)


def each_alone(attacks: list[Attack], seconds: float) -> Iterator[Outcome]:
    """Give every attack a service of its own, which gets SIGTERM in the middle of a second attack."""
    for one in attacks:
        with tempfile.TemporaryDirectory() as folder, open_stand(Path(folder), one.settings) as stand:
            outcome = asyncio.run(attack(one, seconds, stand, BOUNDS))
            outcome.stopped_after = asyncio.run(stop_during(one, seconds, stand))
            yield outcome


def all_in_turn(attacks: list[Attack], seconds: float) -> Iterator[Outcome]:
    """Run the attacks one after another against one service; it gets SIGTERM in the middle of the last."""
    with tempfile.TemporaryDirectory() as folder, open_stand(Path(folder)) as stand:
        for one in attacks[:-1]:
            yield asyncio.run(attack(one, seconds, stand, SHORT_BOUNDS))
        last = asyncio.run(attack(attacks[-1], seconds, stand, SHORT_BOUNDS))
        last.stopped_after = asyncio.run(stop_during(attacks[-1], seconds, stand))
        yield last


async def stop_during(one: Attack, seconds: float, stand: Stand) -> float:
    """Attack again, stop the service in the middle, and return the seconds that its end took; infinite for none."""
    attacking = asyncio.create_task(_apart(one, stand, seconds))
    await asyncio.sleep(STOP_AFTER_SECONDS)
    stopped = await asyncio.to_thread(stop, stand.pid)
    await asyncio.gather(attacking, return_exceptions=True)  # the service has ended, so its requests fail
    return stopped


async def _apart(one: Attack, stand: Stand, seconds: float) -> Answers:
    """Attack from a process of its own, so that the witness does not wait for the attacker."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return await asyncio.get_running_loop().run_in_executor(pool, perform, one.name, stand, seconds)


def main() -> int:
    """Run the attacks that are named, or all; exit status 1 when a bound did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*(one.name for one in ATTACKS), []])
    parser.add_argument("--seconds", type=float, default=15.0, help="of each attack")
    parser.add_argument("--short", action="store_true", help="some seconds each, of one service, with wider bounds")
    parser.add_argument("--write", action="store_true", help=f"write the rows into {PAGE.name}")
    options = parser.parse_args()
    chosen = [one for one in ATTACKS if not options.names or one.name in options.names]
    bounds = SHORT_BOUNDS if options.short else BOUNDS
    running = all_in_turn(chosen, SHORT_SECONDS) if options.short else each_alone(chosen, options.seconds)
    outcomes: list[Outcome] = []
    for outcome in running:
        outcomes.append(outcome)
        print(*list(table([outcome], bounds))[2:], sep="\n", flush=True)  # noqa: T201 -- a program's output
    if options.write:
        _write(outcomes, options.seconds, bounds)
    return int(any(list(outcome.faults(bounds)) for outcome in outcomes))


def _write(outcomes: list[Outcome], seconds: float, bounds: Bounds) -> None:
    """Replace the rows of these attacks in the page, and keep all others."""
    old = PAGE.read_text().splitlines() if PAGE.exists() else []
    head, line, *new = table(outcomes, bounds)
    rows = {row.split("`")[1]: row for row in [*old, *new] if row.startswith("| `")}
    kept = [rows[one.name] for one in ATTACKS if one.name in rows]
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    PAGE.write_text("\n".join([HEADING, head, line, *kept, "", f"Measured {day}, {seconds:g} s each.", ""]))


if __name__ == "__main__":
    sys.exit(main())
