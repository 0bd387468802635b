"""The programs that cannot run in a test, as their metrics: recorded expositions on a real socket.

Their counters go on counting, one a second: a ratio of two that stand still has no value.
"""

from __future__ import annotations

import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

FOLDER = Path(__file__).parent / "recorded"
COUNTER = re.compile(r"^# TYPE (\w+) counter$", re.MULTILINE)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def recorded() -> tuple[str, ...]:
    """Names of the programs that there is a recording of."""
    return tuple(sorted(file.stem for file in FOLDER.glob("*.prom")))


def counting(text: str, seconds: float) -> str:
    """The exposition with its counters that many seconds on: those that it says are counters, `_total` or not."""
    names = "|".join(COUNTER.findall(text)) or "$"
    samples = re.compile(rf"^((?:{names})(?:{{.*}})?) (\S+)$", re.MULTILINE)
    return samples.sub(lambda sample: f"{sample[1]} {float(sample[2]) + seconds}", text)


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """`/NAME` gives NAME's recording."""
        recording = (FOLDER / f"{self.path.strip('/')}.prom").read_text()
        content = counting(recording, time.monotonic()).encode()
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Scrapes are not logged."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A scraper that hung up does not get its answer, and asks again."""


class RecordedMetrics:
    """Serves every recording, from `with` to its end."""

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.target = f"127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
