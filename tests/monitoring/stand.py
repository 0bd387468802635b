"""The service as production runs it, watched by a real Prometheus with the shipped configuration and rules."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.monitoring.recorded_metrics import recorded

ROOT = Path(__file__).parents[2]
PROMETHEUS = shutil.which("prometheus")
CONFIGURATION = ROOT / "observability/prometheus/prometheus.yml"
PATIENCE_SECONDS = 300.0
"""After which what does not come is taken for missing; nothing is measured by it."""
INTERVAL = "5s"
"""Between scrapes and between evaluations, and for one scrape: short, for the test's sake, and still enough for a busy
machine to answer."""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def until(found: Callable[[], Any], what: str) -> Any:
    """What is found, as soon as it is."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (answer := found()):
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.1)
    return answer


@contextmanager
def process(command: list[str], log: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process with nothing of ours in its environment but what is given; ended in order, or else by force."""
    kept = {"PATH", "HOME", "LANG"}
    inherited = {name: value for name, value in os.environ.items() if name in kept}
    with log.open("wb") as output:
        running = subprocess.Popen(
            command,
            cwd=log.parent,
            env={**inherited, "PYTHONPATH": str(ROOT), **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(30)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def said(log: Path, message: str) -> dict[str, Any] | None:
    """The log line with that message, once there is one."""
    for line in log.read_text().splitlines():
        if line.startswith("{") and f'"{message}"' in line:
            return json.loads(line)
    return None


def shipped(folder: Path, targets: Mapping[str, list[str]], alertmanager: str) -> Path:
    """The shipped configuration and rules in a folder of their own.

    Only addresses and times differ: each job has the targets given, scrapes and evaluations come every few seconds, and
    alerts wait for nothing. Jobs without targets are left as they are, without any. Recordings get jobs of their own.
    """
    configuration = yaml.safe_load(CONFIGURATION.read_text())
    configuration["global"] |= dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), INTERVAL)
    for job in configuration["scrape_configs"]:
        for kind in ("dns_sd_configs", "static_configs", "scrape_interval"):
            job.pop(kind, None)
        job["static_configs"] = [{"targets": targets.get(job["job_name"], [])}]
    known = {job["job_name"] for job in configuration["scrape_configs"]}
    for name in recorded():
        if name not in known:
            configuration["scrape_configs"].append({"job_name": name, "static_configs": [{"targets": []}]})
    for job in configuration["scrape_configs"]:
        if job["job_name"] in recorded():
            job.pop("relabel_configs", None)
            job.pop("params", None)
            job["metrics_path"] = f"/{job['job_name']}"
            job["static_configs"] = [{"targets": targets["recorded"]}]
    configuration["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [alertmanager]}]}]
    configuration["rule_files"] = [str(_hurried(file, folder)) for file in rule_files()]
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(configuration))
    return file


def rule_files() -> list[Path]:
    """Every file of rules that the shipped configuration reads."""
    patterns = yaml.safe_load(CONFIGURATION.read_text())["rule_files"]
    return sorted(file for pattern in patterns for file in CONFIGURATION.parent.glob(pattern))


def _hurried(file: Path, folder: Path) -> Path:
    rules = yaml.safe_load(file.read_text())
    for group in rules["groups"]:
        group["interval"] = INTERVAL
        for rule in group["rules"]:
            rule.pop("for", None)
            rule.pop("keep_firing_for", None)
    copy = folder / f"{file.parent.name}-{file.name}"
    copy.write_text(yaml.safe_dump(rules))
    return copy


@contextmanager
def prometheus(configuration: Path, port: int) -> Iterator[str]:
    """A real Prometheus, run as compose.yaml runs it; gives its address."""
    command = [
        str(PROMETHEUS),
        f"--config.file={configuration}",
        f"--storage.tsdb.path={configuration.parent / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
        "--log.level=warn",
    ]
    address = f"http://127.0.0.1:{port}"
    with process(command, configuration.parent / "prometheus.log", {}) as running:
        until(lambda: running.poll() is not None or answers(f"{address}/-/ready"), "Prometheus")
        assert running.poll() is None, (configuration.parent / "prometheus.log").read_text()
        yield address


def answers(address: str) -> bool:
    """Whether it is there."""
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:  # noqa: S310 - our own server
            return answer.status == 200
    except OSError:
        return False


def service(role: str) -> list[str]:
    """The command of `feature-agent serve` or `feature-agent worker`."""
    return [sys.executable, "-m", "service", role]
