"""The stub as a process of its own, so that what it does costs neither the service nor the generator anything."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from loadtest.model_stub.latency import load_latency

ROOT = Path(__file__).parents[2]
STOP_TIMEOUT_SECONDS = 10.0


@contextmanager
def running_stub(latency: str) -> Generator[dict[str, str]]:
    """Run a stub; gives the settings with which a service plans by it. Raises BadInput for an unknown distribution."""
    load_latency(latency)
    command = [sys.executable, "-m", "loadtest.model_stub", "serve", "--latency", latency]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            yield {
                "PRIMARY_MODEL": "openai-chat:stub",
                "OPENAI_BASE_URL": json.loads(line)["url"],
                "OPENAI_API_KEY": "none-is-needed",
            }
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
