"""Limits of a process as a container runtime sets them: a cgroup (v1 or v2) with a CPU quota and a memory limit."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from loadtest.errors import BadInput
from loadtest.scaling.manifest import Resources

ROOT = Path("/sys/fs/cgroup")
PARENT = "feature-agent-loadtest"
PERIOD_MICROSECONDS = 100_000
V1_CONTROLLERS = ("cpu", "cpuacct", "memory")
ENTER = 'while [ "$1" != -- ]; do echo $$ > "$1" || exit 1; shift; done; shift; exec "$@"'


class NoCgroups(BadInput):
    """Limits cannot be set on a process of this machine."""


class Used(NamedTuple):
    """What a cgroup has used."""

    cpu_seconds: float
    memory: int
    """Bytes of the working set, as the kubelet reports it: without file pages that are idle."""
    periods: int
    throttled: int


class Cgroup:
    """One cgroup, made with its limits and removed with what runs in it."""

    def __init__(self, name: str, resources: Resources, root: Path = ROOT) -> None:
        self._v2 = (root / "cgroup.controllers").exists()
        self._root = root
        self._cpu, self._acct, self._memory = self._make_folders(name)
        quota = resources.limit_cpu_m * PERIOD_MICROSECONDS // 1000
        try:
            if self._v2:
                (self._cpu / "cpu.max").write_text(f"{quota} {PERIOD_MICROSECONDS}")
                (self._memory / "memory.max").write_text(str(resources.limit_memory))
            else:
                (self._cpu / "cpu.cfs_period_us").write_text(str(PERIOD_MICROSECONDS))
                (self._cpu / "cpu.cfs_quota_us").write_text(str(quota))
                (self._cpu / "cpu.shares").write_text(str(max(2, resources.request_cpu_m * 1024 // 1000)))
                (self._memory / "memory.limit_in_bytes").write_text(str(resources.limit_memory))
        except OSError as error:
            self.remove()
            raise _refused(self._cpu, error) from None

    def _make_folders(self, name: str) -> tuple[Path, Path, Path]:
        try:
            if self._v2:
                folder = self._root / PARENT / name
                folder.parent.mkdir(exist_ok=True)
                for parent in (self._root, folder.parent):
                    (parent / "cgroup.subtree_control").write_text("+cpu +memory")
                folder.mkdir(exist_ok=True)
                return folder, folder, folder
            folders = [self._root / controller / PARENT / name for controller in V1_CONTROLLERS]
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True)
            return folders[0], folders[1], folders[2]
        except OSError as error:
            raise _refused(self._root, error) from None

    def command(self, arguments: Sequence[str]) -> list[str]:
        """Wrap a command so that it begins within the cgroup: a shell enters it and then becomes the command."""
        files = sorted({str(folder / "cgroup.procs") for folder in (self._cpu, self._acct, self._memory)})
        return ["/bin/sh", "-c", ENTER, "sh", *files, "--", *arguments]

    def used(self) -> Used:
        """Read what it has used."""
        stat = _pairs(self._cpu / "cpu.stat")
        memory = _pairs(self._memory / "memory.stat")
        if self._v2:
            seconds, held = stat["usage_usec"] / 1e6, int((self._memory / "memory.current").read_text())
            idle = memory["inactive_file"]
        else:
            seconds = int((self._acct / "cpuacct.usage").read_text()) / 1e9
            held, idle = int((self._memory / "memory.usage_in_bytes").read_text()), memory["total_inactive_file"]
        return Used(seconds, max(0, held - idle), stat.get("nr_periods", 0), stat.get("nr_throttled", 0))

    def remove(self) -> None:
        """Kill what is left in it, and remove it."""
        with contextlib.suppress(OSError):
            for pid in (self._cpu / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
        for folder in {self._cpu, self._acct, self._memory}:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _refused(path: Path, error: OSError) -> NoCgroups:
    return NoCgroups(
        f"no rights for cgroups ({path}: {error.strerror}): a pod's limits cannot be set here; run as root, or where a "
        f"cgroup is delegated"
    )


def _pairs(path: Path) -> dict[str, int]:
    return {name: int(value) for name, value in (line.split() for line in path.read_text().splitlines())}
