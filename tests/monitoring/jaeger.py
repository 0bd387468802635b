"""A real Jaeger with the shipped configuration, where there is one: on PATH, or named in JAEGER_BIN."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.monitoring.stand import ROOT, answers, free_port, process, until

FILE = ROOT / "observability/jaeger/config.yaml"
JAEGER = os.environ.get("JAEGER_BIN") or shutil.which("jaeger")
NONE_HERE = "there is no jaeger on this machine: put one on PATH or name it in JAEGER_BIN"
_DEFAULT = re.compile(r"\$\{env:[A-Z_]+:-([^}]*)\}")
_PORTS = ("HEALTH", "QUERY", "QUERY_GRPC", "OTLP_GRPC", "OTLP_HTTP", "SPANMETRICS", "TELEMETRY")


def configuration() -> dict[str, Any]:
    """The file, with the defaults of its environment variables."""
    return yaml.safe_load(_DEFAULT.sub(r"\1", FILE.read_text()))


@dataclass(frozen=True)
class Jaeger:
    """A running Jaeger."""

    otlp: str
    query: str
    spanmetrics: str
    telemetry: str
    process: subprocess.Popen[bytes]

    def get(self, address: str) -> str | None:
        """The answer's text, or None when there is none."""
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 - our own server
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return None

    def spans(self, trace_id: str) -> list[dict[str, Any]]:
        """The stored spans of a trace."""
        text = self.get(f"{self.query}/api/traces/{trace_id}")
        return json.loads(text)["data"][0]["spans"] if text else []

    def total(self, metric: str) -> float:
        """A counter of its own, summed over all labels."""
        text = self.get(f"{self.telemetry}/metrics") or ""
        return sum(float(value) for value in re.findall(rf"^{metric}\S* (\S+)$", text, re.MULTILINE))

    def resident_mib(self) -> float:
        """Memory that it has for itself: files that it maps are the kernel's to take back."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"RssAnon:\s+(\d+) kB", status)[0]) / 1024


@contextmanager
def running_jaeger(folder: Path, **environment: str) -> Generator[Jaeger]:
    """Only its addresses and its folder differ from what is shipped, and what `environment` says."""
    assert JAEGER is not None, NONE_HERE
    ports = {name: free_port() for name in _PORTS}
    given = {f"JAEGER_{name}_PORT": str(port) for name, port in ports.items()}
    given |= {"JAEGER_DATA": str(folder / "badger"), "JAEGER_UI_CONFIG": str(FILE.parent / "ui.json"), **environment}
    (folder / "badger").mkdir()
    with process([JAEGER, "--config", str(FILE)], folder / "jaeger.log", given) as running:
        health = f"http://127.0.0.1:{ports['HEALTH']}/status"
        until(lambda: running.poll() is not None or answers(health), "Jaeger")
        assert running.poll() is None, (folder / "jaeger.log").read_text()[-4000:]
        at = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        yield Jaeger(at["OTLP_HTTP"], at["QUERY"], at["SPANMETRICS"], at["TELEMETRY"], running)
