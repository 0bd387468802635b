"""The programs that cannot run in a test, as their metrics: recorded expositions on a real socket.

Counters go up by one with each scrape: what divides by a rate has a value only while something happens.
"""

from __future__ import annotations

import itertools
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

FOLDER = Path(__file__).parent / "recorded"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def recorded() -> tuple[str, ...]:
    """Names of the programs that there is a recording of."""
    return tuple(sorted(file.stem for file in FOLDER.glob("*.prom")))


_SCRAPES = itertools.count()


def _grown(recording: Path, by: int) -> str:
    """The recording, its counters higher."""
    lines = recording.read_text().splitlines()
    counters = {line.split()[2] for line in lines if line.startswith("# TYPE ") and line.endswith(" counter")}
    return "".join(f"{_higher(line, by) if re.split('[{ ]', line)[0] in counters else line}\n" for line in lines)


def _higher(sample: str, by: int) -> str:
    series, _, value = sample.rpartition(" ")
    return f"{series} {float(value) + by:.12g}"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """`/NAME` gives NAME's recording."""
        content = _grown(FOLDER / f"{self.path.strip('/')}.prom", next(_SCRAPES)).encode()
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
