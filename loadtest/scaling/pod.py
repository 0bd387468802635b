"""A pod as a process: an address of its own, limits as a cgroup, readiness by asking, an end as a kubelet brings it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time

from loadtest.measure.selector import Selector, parse_exposition
from loadtest.measure.watch import fetch
from loadtest.scaling.limited import Cgroup, Used
from loadtest.scaling.manifest import Deployed
from loadtest.scaling.stand import Stand

PROBE_SECONDS = 1.0
PROBE_TIMEOUT_SECONDS = 3.0
PROBE_FAILURES = 3
GAUGE = "api_requests_in_flight"
NETWORK = "127.77.0."


class PodProcess:
    """One process of `feature-agent serve` or `worker`, from its start to its end."""

    def __init__(self, stand: Stand, deployed: Deployed, number: int, *, limited: bool = True) -> None:
        self.name = f"{deployed.component}-{number:03d}"
        self.address = f"{NETWORK}{number}"
        self.created = time.monotonic()
        self.ready_at: float | None = None
        self.ready = False
        self.leaving = False
        self.ended_at: float | None = None
        self.forced = False
        self.deployed = deployed
        self._cgroup = Cgroup(self.name, deployed.resources) if limited else None
        self._log = stand.folder / f"{self.name}.log"
        self._failures = 0
        role = {"api": "serve"}.get(deployed.component, deployed.component)
        command = [sys.executable, "-m", "service", role]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._cgroup.command(command) if self._cgroup else command,
                cwd=stand.folder,
                env=stand.settings(deployed, self.name, self.address),
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def host(self) -> str:
        """Address of its API."""
        return f"http://{self.address}:8000"

    @property
    def metrics(self) -> str:
        """Address of its metrics."""
        return f"http://{self.address}:8090/metrics"

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def probe(self) -> None:
        """Ask for readiness once, as a kubelet does: a ready pod has to fail three times to become unready."""
        port = 8000 if self.deployed.component == "api" else 8090
        try:
            fetch(f"http://{self.address}:{port}/health/ready", PROBE_TIMEOUT_SECONDS)
        except OSError:
            self._failures += 1
            if self._failures >= PROBE_FAILURES:
                self.ready = False
        else:
            self._failures = 0
            self.ready = True
            self.ready_at = self.ready_at or time.monotonic()

    def used(self) -> Used:
        """Read what it has used."""
        if self._cgroup is not None:
            return self._cgroup.used()
        values = parse_exposition(self.scrape(), ["process_cpu_seconds_total", "process_resident_memory_bytes"])
        cpu = Selector("process_cpu_seconds_total").total(values)
        return Used(cpu, round(Selector("process_resident_memory_bytes").total(values)), 0, 0)

    def scrape(self) -> str:
        """Get its metrics; nothing when it does not answer."""
        with contextlib.suppress(OSError):
            return fetch(self.metrics, PROBE_TIMEOUT_SECONDS)
        return ""

    def in_flight(self) -> float | None:
        """Give the requests that it serves now; None when it does not say."""
        values = parse_exposition(self.scrape(), [GAUGE])
        return Selector(GAUGE).total(values) if values else None

    def tail(self) -> str:
        """Give the end of its log."""
        return " ".join(self._log.read_text(encoding="utf-8", errors="replace")[-400:].split())

    def leave(self) -> threading.Thread:
        """Begin its end in a thread: the pause of preStop, SIGTERM, and SIGKILL after the grace period."""
        self.leaving = True
        thread = threading.Thread(target=self._leave, daemon=True)
        thread.start()
        return thread

    def _leave(self) -> None:
        began = time.monotonic()
        time.sleep(self.deployed.pre_stop_seconds)
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(max(1.0, self.deployed.grace_seconds - (time.monotonic() - began)))
        except subprocess.TimeoutExpired:
            self.forced = True
            self._process.kill()
            self._process.wait()
        self.ended_at = time.monotonic()
        self.ready = False
        if self._cgroup is not None:
            self._cgroup.remove()

    def kill(self) -> None:
        """End it at once."""
        if self.alive():
            self._process.kill()
            self._process.wait()
        if self._cgroup is not None:
            self._cgroup.remove()


def await_ready(pod: PodProcess, seconds: float) -> bool:
    """Probe until the pod is ready; gives whether it became so."""
    last = time.monotonic() + seconds
    while time.monotonic() < last and pod.alive():
        pod.probe()
        if pod.ready:
            return True
        time.sleep(PROBE_SECONDS / 4)
    return False
