"""The stub model provider, with the behaviours that a game day needs beside those of `tests.model_scenarios`."""

from __future__ import annotations

import asyncio

from tests import model_server
from tests.model_scenarios import GOOD, SCENARIOS, failing
from tests.model_server import Asked, Provider

SLOW_SECONDS = 12.0
"""Beyond the 10 s of ModelSlow."""
OFTEN = 2000
FLAKY = (failing(500), GOOD, GOOD) * OFTEN
THROTTLED = (failing(429, code="rate_limit_exceeded", retry_after="1"), GOOD, GOOD) * OFTEN


class PatientProvider(Provider):
    """Answers models named `slow` late."""

    slow = False

    def assign(self, model: str, turns: object) -> None:
        """`slow` is a way to behave as well."""
        self.slow = turns is SCENARIOS["slow"]
        super().assign(model, turns)  # type: ignore[arg-type]

    async def _answer(self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if self.slow:
            await asyncio.sleep(SLOW_SECONDS)
        return await super()._answer(asked, reader, writer)


SCENARIOS |= {"flaky": FLAKY, "throttled": THROTTLED, "slow": (GOOD,) * 2}
model_server.Provider = PatientProvider  # type: ignore[misc]

if __name__ == "__main__":
    model_server.main()
