"""The gate rejects every faulty build of the service, with exit status 1 and the reason that is the right one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import pytest

from loadtest.measure.watch import fetch
from tests.loadtest.stand import Judged, Standing, gate, service

pytestmark = [pytest.mark.proof, pytest.mark.xdist_group("loadtest"), pytest.mark.timeout(400)]

CGROUPS = Path("/sys/fs/cgroup")
CPU_PERCENT = 20
MIB = 2**20
RESTART_SECONDS = 9.0
END_SECONDS = 10.0
READING = """
rate: 20
mix: {poll_status: 50, list_extractions: 40, extract_and_poll: 10}
data: {datasets: 1, rows: 50}
"""


def rejected(judged: Judged, gate_name: str) -> str:
    """Give the sentence of the gate that rejected the service."""
    assert (judged.status, judged.verdict["verdict"]) == (1, "fail")
    assert gate_name in judged.reasons, judged.reasons
    failed = {check["gate"] for check in judged.verdict["checks"] if check["outcome"] == "fail"}
    assert gate_name in failed
    return judged.reasons[gate_name]


def test_errors(tmp_path: Path, new_database: Callable[[], str]) -> None:
    """A service that answers 500 to 2 of 100 requests misses its availability."""
    with service(tmp_path, new_database(), "errors") as standing:
        judged = gate(standing, tmp_path)
    assert "not answered 5xx" in rejected(judged, "slo:api-availability")
    assert "doubled" not in judged.reasons
    assert "lost" not in judged.reasons


def test_a_memory_leak(tmp_path: Path, new_database: Callable[[], str]) -> None:
    """A service that keeps a MiB of every request grows by more than a second half may."""
    with service(tmp_path, new_database(), "leak") as standing:
        judged = gate(standing, tmp_path, seconds=24)
    assert "it may leak" in rejected(judged, "memory_growth")


def test_doubled_extractions(tmp_path: Path, new_database: Callable[[], str]) -> None:
    """A second extraction for one Idempotency-Key is found, though no client ever sees it."""
    with service(tmp_path, new_database(), "doubled") as standing:
        judged = gate(standing, tmp_path)
    assert "extractions that no client asked for" in rejected(judged, "doubled")
    assert "lost" not in judged.reasons


def test_metrics_that_miscount(tmp_path: Path, new_database: Callable[[], str]) -> None:
    """A service whose metrics leave out every tenth request is not to be trusted."""
    with service(tmp_path, new_database(), "miscount") as standing:
        judged = gate(standing, tmp_path)
    assert "its metrics cannot be trusted" in rejected(judged, "agreement")


def test_a_process_that_restarts(tmp_path: Path, new_database: Callable[[], str]) -> None:
    """A process that is killed and comes back during the run fails it, even when its clients saw nothing."""
    with service(tmp_path, new_database()) as standing:
        restarting = threading.Thread(target=_restart_in_the_middle, args=(standing,))
        restarting.start()
        judged = gate(standing, tmp_path, seconds=16)
        restarting.join()
    assert "ended and came back" in rejected(judged, "restarts")


def _restart_in_the_middle(standing: Standing) -> None:
    last = time.monotonic() + 60
    while "POST" not in _uploads(standing) and time.monotonic() < last:
        time.sleep(0.2)
    time.sleep(RESTART_SECONDS / 2)
    standing.kill()
    standing.start()


def _uploads(standing: Standing) -> str:
    """Give the method of the first upload that the service has counted: then the run has begun."""
    found = [
        line
        for line in fetch(f"{standing.host}/metrics").splitlines()
        if line.startswith("api_requests_total") and '/api/v1/datasets"' in line and 'status="201"' in line
    ]
    return "POST" if any(float(line.rpartition(" ")[2]) > 0 for line in found) else ""


# -- limits ------------------------------------------------------------------------------------------------------


@contextmanager
def group(controller: str, limits: dict[str, str]) -> Iterator[Path]:
    """Make a control group of version 1 or 2 with these files, or skip."""
    whole = CGROUPS if (CGROUPS / "cgroup.controllers").exists() else CGROUPS / controller
    folder = whole / f"loadtest-{uuid4().hex[:8]}"
    try:
        if whole == CGROUPS:
            (whole / "cgroup.subtree_control").write_text(f"+{controller}")
        folder.mkdir()
        for name, value in limits.items():
            (folder / name).write_text(value)
    except OSError as error:
        pytest.skip(f"a control group cannot be made here: {error.strerror}")
    try:
        yield folder
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    """Remove the group as soon as its last process has ended or left; the engine's end after the service."""
    last = time.monotonic() + END_SECONDS
    while True:
        for pid in (folder / "cgroup.procs").read_text().split():
            with suppress(OSError):  # the process has ended
                (folder.parent / "cgroup.procs").write_text(pid)
        try:
            return folder.rmdir()
        except OSError:
            if time.monotonic() > last:
                raise
            time.sleep(0.1)


def is_v2() -> bool:
    """Whether the machine's control groups are of version 2."""
    return (CGROUPS / "cgroup.controllers").exists()


def test_a_cpu_limit_that_is_too_small(tmp_path: Path, new_database: Callable[[], str]) -> None:
    """A service that its CPU limit stops all the time is rejected for the limit, and does not keep up."""
    quota = CPU_PERCENT * 1000
    limits = (
        {"cpu.max": f"{quota} 100000"} if is_v2() else {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": str(quota)}
    )
    with group("cpu", limits) as folder, service(tmp_path, new_database()) as standing:
        assert standing.process is not None
        (folder / "cgroup.procs").write_text(str(standing.process.pid))
        judged = gate(standing, tmp_path, scenario=READING)
        standing.kill()
    sentence = rejected(judged, "cpu_limit")
    assert "0.20 cores" in sentence
    assert "too small for this load" in sentence
    assert judged.reasons.keys() & {"slo:api-latency-read", "achieved_rate", "clients"}


def test_a_memory_limit_that_is_too_small(tmp_path: Path, new_database: Callable[[], str]) -> None:
    """A service that uses more than nine tenths of its memory limit is rejected for the limit."""
    (tmp_path / "free").mkdir()
    (tmp_path / "bound").mkdir()
    with service(tmp_path / "free", new_database()) as standing:
        free = gate(standing, tmp_path / "free", seconds=5)
    peak = max(point["memory_mib"] for point in free.run["service"]["points"])
    name = "memory.max" if is_v2() else "memory.limit_in_bytes"
    # Below the peak, since no two runs are alike; pages of libraries are counted with the process, not with the group.
    limit = {name: str(round(peak * 0.95 * MIB))}
    with group("memory", limit) as folder:
        join = str(folder / "cgroup.procs")
        with service(tmp_path / "bound", new_database(), JOIN=join) as standing:
            judged = gate(standing, tmp_path / "bound", seconds=5)
    assert "too small for this load" in rejected(judged, "memory_limit")
