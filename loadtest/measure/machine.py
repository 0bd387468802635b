"""The machine that generates the load: whether it is busy with something else, and how fast it is."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import platform
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import psutil

from loadtest.results import Machine

PRESSURE = Path("/proc/pressure/cpu")
SAMPLE_SECONDS = 2.0
COMPANIONS = frozenset({"postgres", "redis-server", "haproxy", "nginx", "minio"})
"""Programs that a service on the same machine stands on: what they use is the service's."""
CALIBRATION_SAMPLES = 5
"""Samples of the processes between two calibrations: some 70 ms of a core in 10 s."""
MAX_NAMES = 3


def cpu_pressure(path: Path = PRESSURE) -> float | None:
    """Give the percent of the last 10 s in which something waited for a CPU; None where the kernel does not say."""
    try:
        first = path.read_text(encoding="ascii").splitlines()[0]
        return float(dict(part.split("=") for part in first.split()[1:])["avg10"])
    except (OSError, IndexError, KeyError, ValueError):
        return None


def calibrate() -> float:
    """Give the CPU seconds of a fixed piece of work like a web service's, by the clock of the calling thread.

    It is repeated throughout a run, since a machine that others share, or whose clock follows its heat, is not as fast
    in one minute as in the next.
    """
    return _work()


def _work() -> float:
    began = time.thread_time()
    rows: list[dict[str, Any]] = [
        {"id": number, "name": f"feature_{number % 97}", "value": number / 7} for number in range(2_000)
    ]
    for _ in range(12):
        text = json.dumps(rows)
        rows = json.loads(text)
        hashlib.sha256(text.encode()).digest()
        rows.sort(key=_order)
    return time.thread_time() - began


def _order(row: dict[str, Any]) -> tuple[str, int]:
    return row["name"], row["id"]


class MachineWatch:
    """Adds up, in a thread, what processes use that belong neither to the test nor to the service."""

    def __init__(self, service_pids: Iterable[int] = ()) -> None:
        self._service = set(service_pids)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._foreign: Counter[str] = Counter()
        self._seen: dict[tuple[int, float], float] = {}
        self._began = 0.0
        self._busy_began = 0.0
        self._own_seconds = 0.0
        calibrate()  # the first one only warms up
        self._calibrations = [calibrate()]
        self.pressure_before = cpu_pressure()

    def __enter__(self) -> Self:
        """Begin to count."""
        self._sample()
        self._foreign.clear()
        self._own_seconds = 0.0
        self._began, self._busy_began = time.monotonic(), _busy_seconds()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._sample()
        self._seconds = time.monotonic() - self._began
        self._busy = _busy_seconds() - self._busy_began

    def _run(self) -> None:
        for number in itertools.count(1):
            if self._over.wait(SAMPLE_SECONDS):
                return
            self._sample()
            if number % CALIBRATION_SAMPLES == 0:
                self._calibrations.append(calibrate())

    def _sample(self) -> None:
        ours = self._ours()
        for process in psutil.process_iter(["pid", "name", "cpu_times", "create_time"]):
            info = process.info
            times = info["cpu_times"]
            if times is None:
                continue
            used = times.user + times.system
            key = (info["pid"], info["create_time"])
            delta = used - self._seen.get(key, 0.0)
            self._seen[key] = used
            if info["pid"] in ours or info["name"] in COMPANIONS:
                self._own_seconds += delta
            else:
                self._foreign[info["name"] or "?"] += delta  # pyright: ignore[reportArgumentType]

    def _ours(self) -> set[int]:
        found: set[int] = set()
        for pid in {os.getpid(), *self._service}:
            try:
                process = psutil.Process(pid)
                found |= {pid, *(child.pid for child in process.children(recursive=True))}
            except psutil.Error:
                continue
        return found

    def result(self, generator_cores: float) -> Machine:
        """Give what was seen, once the `with` block has ended."""
        seconds = max(self._seconds, 1e-9)
        foreign = max(0.0, self._busy - self._own_seconds) / seconds
        names = [f"{name} {used / seconds:.2f} cores" for name, used in self._foreign.most_common(MAX_NAMES)]
        calibrations = sorted(self._calibrations)
        return Machine(
            cores=len(os.sched_getaffinity(0)),
            system=f"{platform.system()} {platform.machine()}",
            python=platform.python_version(),
            pressure_before=self.pressure_before,
            pressure_after=cpu_pressure(),
            foreign_cores=round(foreign, 3),
            foreign_names=names,
            generator_cores=round(generator_cores, 3),
            calibration_seconds=round(statistics.median(calibrations), 5),
            calibration_spread=round(calibrations[-1] / calibrations[0], 3),
        )


def _busy_seconds() -> float:
    times: Any = psutil.cpu_times()  # which fields there are depends on the system
    return float(sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq")))


def listeners(port: int) -> list[int]:
    """Give the processes of this machine that listen on a port; none where that may not be asked."""
    found: list[int] = []
    for process in psutil.process_iter(["pid"]):
        try:
            connections = process.net_connections(kind="tcp")
        except psutil.Error:
            continue
        if any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in connections):
            found.append(process.pid)
    return found
