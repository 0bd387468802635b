"""The service's own metrics during a run: all its processes together, right through restarts and scaling."""

from __future__ import annotations

import http.client
import socket
import threading
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from loadtest.errors import BadInput
from loadtest.measure.selector import Selector, Series, Values, parse_exposition
from loadtest.results import ServicePoint

SCRAPE_SECONDS = 2.0
SCRAPE_TIMEOUT_SECONDS = 5.0
MIB = 2**20
FILE_PREFIX = "file+"
"""`file+PATH` is every address in that file, a line each; it is read again at every look."""
LAG_SHARE = 0.99
MAX_LAG_SECONDS = 10.0
"""What is shown for a lag beyond the histogram's last bound."""
DNS_PREFIX = "dns+"
"""`dns+http://name:port/metrics` is every address that the name has just then: the pods of a headless Service."""

NAMES = (
    "api_requests_in_flight",
    "event_loop_lag_seconds",
    "active_extractions",
    "application_info",
    "cache_requests_total",
    "extraction_queue_jobs",
    "extraction_queue_oldest_seconds",
    "memory_limit_bytes",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "telemetry_spans_dropped_total",
)
_GAUGES = frozenset({"api_requests_in_flight", "active_extractions", "extraction_queue_jobs", "application_info"})


def fetch(url: str, timeout: float = SCRAPE_TIMEOUT_SECONDS) -> str:
    """Get a text over HTTP without any proxy. Raises OSError."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url), timeout=timeout) as answer:  # noqa: S310 - an address of the test
            return answer.read().decode("utf-8", errors="replace")
    except (http.client.HTTPException, ValueError) as error:  # no HTTP is spoken there, or it is no address
        raise OSError(f"{type(error).__name__}: {error}") from None


class Process:
    """What one process of the service has counted, start after start."""

    def __init__(self) -> None:
        self.first: Values | None = None
        self.last: Values = {}
        self.ended: Values = {}
        """What earlier starts had counted when they were last seen."""
        self.restarts = 0
        self.here = False

    def take(self, values: Values) -> None:
        """Take a scrape; a process that started anew counts from zero again."""
        if self.first is None:
            self.first = values
        elif self.last and _started(values) > _started(self.last) + 1:
            self.restarts += 1
            self.ended = _added(self.ended, _difference(self.last, self.first))
            self.first = {}
        self.last = values
        self.here = True

    def counted(self) -> Values:
        """Give what its counters rose by since it was first seen."""
        return _added(self.ended, _difference(self.last, self.first or {}))


class Watch:
    """Looks at the metrics of every process every few seconds, in a thread, from `with` to its end."""

    def __init__(self, urls: Sequence[str], names: Sequence[str]) -> None:
        self._urls = urls
        self._names = (*NAMES, *names)
        self._processes: dict[str, Process] = {}
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._lags: Values = {}
        self.points: list[ServicePoint] = []

    def __enter__(self) -> Self:
        """Look once, then again and again. Raises BadInput when nothing can be read."""
        if not self.look():
            raise BadInput(f"{', '.join(self._urls)}: no metrics there; say where they are with --metrics URL")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(SCRAPE_SECONDS):
            self.look()

    def look(self) -> int:
        """Scrape every process once; gives how many answered."""
        with self._lock:
            began_empty = not self._processes
            answered = 0
            for process in self._processes.values():
                process.here = False
            for url in self.addresses():
                answered += self._scrape(url, first_look=began_empty)
            if answered:
                self.points.append(self._point())
            return answered

    def _scrape(self, url: str, *, first_look: bool) -> bool:
        try:
            values = parse_exposition(fetch(url), self._names)
        except (OSError, ValueError):  # nothing answers there, or not with metrics
            return False
        if not values:
            return False  # a page, or the metrics of something else
        process = self._processes.setdefault(url, Process())
        if process.first is None and not first_look:
            process.first = {}  # it was started during the run, so all that it counted belongs to the run
        process.take(values)
        return True

    def addresses(self) -> list[str]:
        """Give the address of every process that there is now."""
        found: list[str] = []
        for url in self._urls:
            if url.startswith(FILE_PREFIX):
                found += _listed(Path(url.removeprefix(FILE_PREFIX)))
            else:
                found += _resolved(url.removeprefix(DNS_PREFIX)) if url.startswith(DNS_PREFIX) else [url]
        return found

    def _point(self) -> ServicePoint:
        here = [process for process in self._processes.values() if process.here]
        return ServicePoint(
            at=time.time(),
            processes=len(here),
            cpu_seconds=self._counted("process_cpu_seconds_total"),
            memory_mib=max((_value(p.last, "process_resident_memory_bytes") for p in here), default=0.0) / MIB,
            in_flight=sum(_value(p.last, "api_requests_in_flight") for p in here),
            queued=max((_value(p.last, "extraction_queue_jobs", state="queued") for p in here), default=0.0),
            oldest_seconds=max((_value(p.last, "extraction_queue_oldest_seconds") for p in here), default=0.0),
            active=sum(_value(p.last, "active_extractions") for p in here),
            loop_lag_ms=self._loop_lag(),
        )

    def _loop_lag(self) -> float:
        """Give the p99 of what was added to the histogram since the last look."""
        counted = {of: v for of, v in self.counted().items() if of.name == "event_loop_lag_seconds_bucket"}
        before, self._lags = self._lags, counted
        added: dict[float, float] = {}
        for series, value in counted.items():
            bound = float(dict(series.labels)["le"])
            added[bound] = added.get(bound, 0.0) + value - before.get(series, 0.0)
        whole = max(added.values(), default=0.0)
        reached = [bound for bound in sorted(added) if whole and added[bound] >= LAG_SHARE * whole]
        return 1000 * min(reached[0], MAX_LAG_SECONDS) if reached else 0.0

    def _counted(self, name: str) -> float:
        return Selector(name).total(self.counted())

    def counted(self) -> Values:
        """Give what the counters of all processes rose by."""
        found: Values = {}
        for process in self._processes.values():
            found = _added(found, process.counted())
        return found

    @property
    def restarts(self) -> int:
        """How often a process came back at the same address."""
        return sum(process.restarts for process in self._processes.values())

    @property
    def memory_limit_mib(self) -> float:
        """Smallest limit that a process states; 0 when none does."""
        limits = [_value(process.last, "memory_limit_bytes") for process in self._processes.values()]
        return min((limit for limit in limits if limit > 0), default=0.0) / MIB

    @property
    def version(self) -> str:
        """Version that the service states."""
        for process in self._processes.values():
            for series in process.last:
                if series.name == "application_info":
                    return dict(series.labels).get("version", "")
        return ""

    def cache_share(self) -> float:
        """Share of the requests for features that a cached result or plan answered."""
        lookups, counted = Selector("cache_requests_total"), self.counted()
        results = lookups.total(counted, cache="result", result="hit")
        plans = lookups.total(counted, cache="plan", result="hit")
        whole = results + plans + lookups.total(counted, cache="plan", result="miss", level="memory")
        return (results + plans) / whole if whole else 0.0


def _listed(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except OSError:
        return []


def _resolved(url: str) -> list[str]:
    parts = urlsplit(url)
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_STREAM)
    except OSError:
        return []
    addresses = sorted({str(address[4][0]) for address in found})
    hosts = [f"[{address}]" if ":" in address else address for address in addresses]
    return [parts._replace(netloc=f"{host}:{parts.port or 80}").geturl() for host in hosts]


def _value(values: Values, name: str, **labels: str) -> float:
    return Selector(name).total(values, **labels)


def _started(values: Values) -> float:
    return _value(values, "process_start_time_seconds")


def _difference(last: Values, first: Values) -> Values:
    return {series: max(0.0, value - first.get(series, 0.0)) for series, value in last.items() if _counts(series)}


def _counts(series: Series) -> bool:
    return series.name not in _GAUGES and series.name.endswith(("_total", "_count", "_bucket", "_sum"))


def _added(one: Values, other: Values) -> Values:
    found = dict(one)
    for series, value in other.items():
        found[series] = found.get(series, 0.0) + value
    return found
