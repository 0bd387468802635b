"""The limits of a process of this machine, read from its cgroup (v1 or v2)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

ROOT = Path("/sys/fs/cgroup")
MICROSECONDS = 1e6


class Throttling(NamedTuple):
    """How far a CPU limit has stopped a process so far."""

    periods: int
    throttled: int
    limit_cores: float | None
    """None without a limit."""


def throttling_of(pid: int, proc: Path = Path("/proc"), root: Path = ROOT) -> Throttling | None:
    """Read what the process's cgroup says; None where there is none or it cannot be read."""
    try:
        lines = (proc / str(pid) / "cgroup").read_text(encoding="utf-8").splitlines()
        for line in lines:
            number, controllers, path = line.split(":", 2)
            if number == "0" and (root / "cgroup.controllers").exists():
                return _read_v2(root / path.lstrip("/"))
            if "cpu" in controllers.split(","):
                return _read_v1(root / "cpu" / path.lstrip("/"))
    except (OSError, ValueError, KeyError):
        return None
    return None


def _read_v1(folder: Path) -> Throttling:
    stat = _pairs(folder / "cpu.stat")
    quota = int((folder / "cpu.cfs_quota_us").read_text(encoding="ascii"))
    period = int((folder / "cpu.cfs_period_us").read_text(encoding="ascii"))
    return Throttling(stat["nr_periods"], stat["nr_throttled"], quota / period if quota > 0 else None)


def _read_v2(folder: Path) -> Throttling:
    stat = _pairs(folder / "cpu.stat")
    quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
    limit = None if quota == "max" else int(quota) / int(period)
    return Throttling(stat.get("nr_periods", 0), stat.get("nr_throttled", 0), limit)


def _pairs(path: Path) -> dict[str, int]:
    return {
        name: int(value) for name, value in (line.split() for line in path.read_text(encoding="ascii").splitlines())
    }
