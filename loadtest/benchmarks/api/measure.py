"""Measures one server: its start, its memory, and what each request takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import uvloop

from loadtest.benchmarks.api.client import Load, closed_loop, open_loop
from loadtest.benchmarks.api.processes import ServerProcess, free_port
from loadtest.benchmarks.api.stage import Stage
from loadtest.benchmarks.api.variants import Variant, environment_of
from loadtest.benchmarks.api.workloads import Caller, Workload, sign_in, workloads_of

WARM_UP_SHARE = 0.3
"""Of the time of a measurement, before it."""


@dataclass(frozen=True)
class Sample:
    """One measurement of one workload."""

    cpu_us: float
    """Microseconds of the server's CPU for a request."""
    rate: float
    """Requests a second."""
    p50_ms: float
    p99_ms: float


@dataclass
class Running:
    """A server that has been signed in to."""

    variant: Variant
    process: ServerProcess
    caller: Caller
    workloads: dict[str, Workload]
    metrics_url: str

    def measure(self, name: str, seconds: float) -> Sample:
        """Saturate the server with one workload."""
        workload = self.workloads[name]
        self._load(workload, seconds * WARM_UP_SHARE)
        before = self.process.cpu_seconds()
        load = self._load(workload, seconds)
        used = self.process.cpu_seconds() - before
        return _sample(load, used)

    def at_rate(self, name: str, seconds: float, rate: float) -> Sample:
        """Ask so often a second, whatever the server does."""
        workload = self.workloads[name]
        before = self.process.cpu_seconds()
        load = uvloop.run(
            open_loop(
                "127.0.0.1",
                self.process.port,
                workload.request,
                connections=workload.connections * 4,
                seconds=seconds,
                rate=rate,
            )
        )
        _require(load, workload)
        return _sample(load, self.process.cpu_seconds() - before)

    def some(self, name: str, requests: int) -> Load:
        """A few requests, for their answers."""
        workload = self.workloads[name]
        load = uvloop.run(
            closed_loop(
                "127.0.0.1",
                self.process.port,
                workload.request,
                connections=min(workload.connections, requests),
                count=requests,
            )
        )
        _require(load, workload)
        return load

    def _load(self, workload: Workload, seconds: float) -> Load:
        load = uvloop.run(
            closed_loop(
                "127.0.0.1",
                self.process.port,
                workload.request,
                connections=workload.connections,
                seconds=seconds,
            )
        )
        _require(load, workload)
        return load


def _require(load: Load, workload: Workload) -> None:
    """Raises RuntimeError for wrong answers: a fast failure is no speed."""
    wrong = {status: number for status, number in load.statuses.items() if status != workload.status}
    if wrong or not load.requests:
        raise RuntimeError(f"{workload.title}: answers {dict(load.statuses)}; the last was {load.last[:500]!r}")


def _sample(load: Load, used: float) -> Sample:
    return Sample(
        cpu_us=used / load.requests * 1e6,
        rate=load.requests / load.seconds,
        p50_ms=load.percentile(0.5) * 1e3,
        p99_ms=load.percentile(0.99) * 1e3,
    )


@contextmanager
def running(variant: Variant, stage: Stage, core: int) -> Iterator[Running]:
    """The variant, started on its core and signed in to."""
    port, metrics_port = free_port(), free_port()
    environment = environment_of(variant, stage, port, metrics_port)
    log = stage.folder / f"{variant.name}-{port}.log"
    server = ServerProcess(variant.command, environment, port=port, health=variant.health, core=core, log=log)
    with ExitStack() as opened:
        process = opened.enter_context(server)
        if variant.worker:
            opened.enter_context(_worker(environment, stage))
        caller = sign_in(variant, port, stage.folder, stage.folder / f"data-{port}")
        yield Running(variant, process, caller, workloads_of(caller), f"http://127.0.0.1:{metrics_port}/metrics")


def _worker(environment: Mapping[str, str], stage: Stage) -> ServerProcess:
    """What runs the extractions of a server that runs none; its CPU is nobody's."""
    port = free_port()
    variables = {**environment, "PROMETHEUS_PORT": str(port)}
    log = stage.folder / f"worker-{port}.log"
    command = ("-m", "service", "worker")
    return ServerProcess(command, variables, port=port, health="/health/ready", core=stage.core, log=log)
