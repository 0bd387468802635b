"""Run Prometheus and Alertmanager with the shipped rules and routes, on a compressed time scale."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from msgspec.structs import replace

from observability.source import alerts, recording
from observability.source.alertmanager import shipped
from observability.source.durations import Scale
from observability.source.slo import Objectives, load_objectives

ROOT = Path(__file__).parents[2]
FAST = Scale(divisor=240, shortest_range=12, shortest_pending=8, shortest_interval=1, least_threshold=10)
"""30 days in three hours. Windows hold four scrapes at least; the intervals of the service itself stay as they are."""
SCRAPE_SECONDS = 3
START_TIMEOUT_SECONDS = 60.0
PROGRAMS = ("prometheus", "prometheus-alertmanager", "redis-server")


def missing_programs() -> list[str]:
    """List the programs that a game day needs and that are not installed."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def objectives() -> Objectives:
    """Load the shipped objectives on the compressed time scale."""
    return replace(load_objectives(ROOT / "observability/slo.yaml"), scale=FAST)


def write_rules(folder: Path) -> None:
    """Render the shipped rules on the compressed time scale."""
    fast = objectives()
    for path, text in {**recording.render(fast), **alerts.render(fast)}.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def alertmanager_config(webhook: str) -> dict[str, Any]:
    """Return the shipped routes and inhibitions with short intervals; each receiver is a webhook of its name."""
    config = shipped()
    for route in (config["route"], *config["route"]["routes"]):
        route.update({"group_wait": "1s", "group_interval": "1s", "repeat_interval": "1h"})
    receivers = [
        {"name": each["name"], "webhook_configs": [{"url": f"{webhook}/{each['name']}", "send_resolved": True}]}
        for each in config["receivers"]
    ]
    return {"route": config["route"], "inhibit_rules": config["inhibit_rules"], "receivers": receivers}


class Monitoring:
    """Both servers, scraping the given targets."""

    def __init__(self, folder: Path, targets: Mapping[str, int], webhook: str) -> None:
        self.folder = folder
        self.port, self._alert_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        write_rules(folder)
        (folder / "alertmanager.yml").write_text(yaml.safe_dump(alertmanager_config(webhook)))
        (folder / "prometheus.yml").write_text(yaml.safe_dump(self._prometheus(targets)))

    def _prometheus(self, targets: Mapping[str, int]) -> dict[str, Any]:
        jobs = {**targets, "prometheus": self.port}
        return {
            "global": {
                "scrape_interval": f"{SCRAPE_SECONDS}s",
                "scrape_timeout": f"{SCRAPE_SECONDS}s",
                "evaluation_interval": "1s",
            },
            "rule_files": ["observability/prometheus/rules/*.yml", "observability/alerts/*.rules.yml"],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{self._alert_port}"]}]}]},
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for job, port in jobs.items()
            ],
        }

    @contextmanager
    def running(self) -> Generator[Monitoring]:
        """Run both for the length of the block."""
        started: list[subprocess.Popen[bytes]] = []
        try:
            started.append(self._start("alertmanager", self._alertmanager_command()))
            started.append(self._start("prometheus", self._prometheus_command()))
            self._wait_for(f"http://127.0.0.1:{self._alert_port}/-/ready")
            self._wait_for(f"{self.url}/-/ready")
            yield self
        finally:
            for process in started:
                process.kill()
                process.wait()

    def _alertmanager_command(self) -> list[str]:
        return [
            "prometheus-alertmanager",
            f"--config.file={self.folder / 'alertmanager.yml'}",
            f"--storage.path={self.folder / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{self._alert_port}",
            "--cluster.listen-address=",
        ]

    def _prometheus_command(self) -> list[str]:
        return [
            "prometheus",
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            f"--web.external-url={self.url}",
            f"--web.user-assets={ROOT / 'observability/alerts'}",
            "--web.enable-lifecycle",
            "--rules.alert.resend-delay=2s",
        ]

    def _start(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("w") as log:
            return subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=subprocess.STDOUT)

    def _wait_for(self, url: str) -> None:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 -- our own server
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError(f"{url} did not answer")

    def wait_for_targets(self, count: int) -> None:
        """Wait until that many targets are up. Raises RuntimeError."""
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while len(self.query("up == 1")) < count:
            if time.monotonic() > deadline:
                raise RuntimeError("not every target is scraped")
            time.sleep(0.2)

    def wait_until_calm(self) -> None:
        """Wait until no critical alert fires, so that a slow start is not taken for the fault. Raises RuntimeError."""
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while any(severity == "critical" for _, severity in self.firing()):
            if time.monotonic() > deadline:
                raise RuntimeError(f"not calm before the fault: {sorted(self.firing())}")
            time.sleep(0.2)

    def reload(self) -> None:
        """Have Prometheus reload its files."""
        request = urllib.request.Request(f"{self.url}/-/reload", method="POST")  # noqa: S310 -- our own server
        with urllib.request.urlopen(request, timeout=30):  # noqa: S310 -- likewise
            return

    def firing(self) -> set[tuple[str, str]]:
        """Return the names and severities of the alerts that fire now."""
        found = self.query('ALERTS{alertstate="firing"}')
        return {(each["metric"]["alertname"], each["metric"]["severity"]) for each in found}

    def query(self, query: str) -> list[dict[str, Any]]:
        """Return the series of an instant query."""
        url = f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 -- our own server
            return json.loads(answer.read())["data"]["result"]

    def range_query(self, query: str) -> list[dict[str, Any]]:
        """Return the series of the last hour, each with its last value."""
        now = time.time()
        parameters = urllib.parse.urlencode({"query": query, "start": now - 3600, "end": now, "step": SCRAPE_SECONDS})
        with urllib.request.urlopen(f"{self.url}/api/v1/query_range?{parameters}", timeout=30) as answer:  # noqa: S310
            found = json.loads(answer.read())["data"]["result"]
        return [{"metric": each["metric"], "value": each["values"][-1]} for each in found]

    def values(self, query: str, ranged: bool) -> list[tuple[dict[str, str], float]]:  # noqa: FBT001 -- as a panel asks
        """Return the labels and values of an expression, now or as last seen within the last hour."""
        found = self.range_query(query) if ranged else self.query(query)
        return [(each["metric"], float(each["value"][1])) for each in found]

    def page(self, url: str) -> str:
        """Return the page that an alert links to; empty when there is none."""
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 -- our own server
                return answer.read().decode()
        except urllib.error.HTTPError:
            return ""
