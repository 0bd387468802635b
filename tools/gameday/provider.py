"""Run the stub model provider with the scenarios of a game day, beside those of `tools.testbed.model_scenarios`."""

from __future__ import annotations

from tools.testbed import model_server
from tools.testbed.model_scenarios import GOOD, SCENARIOS, Turn, failing

SLOW_SECONDS = 12.0
"""Longer than the 10 s of ModelSlow."""
REPEATS = 2000
"""The last turn of a scenario is repeated for ever: a mixture lasts a game day only if it is written out as often."""

SCENARIOS.update({
    "flaky": (failing(500), GOOD, GOOD) * REPEATS,
    "throttled": (failing(429, code="rate_limit_exceeded", retry_after="1"), GOOD, GOOD) * REPEATS,
    "slow": (Turn(delay_seconds=SLOW_SECONDS),),
})  # fmt: skip

if __name__ == "__main__":
    model_server.main()
