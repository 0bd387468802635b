"""Find the memory limit of this process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_LIMITS = {"": ("", "memory.max"), "memory": ("memory", "memory.limit_in_bytes")}
"""Controllers in /proc/self/cgroup → folder below the mount and file with the limit, for cgroup v2 and v1."""


def memory_limit_bytes(*, proc: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the smallest of the machine's memory and the limits of the process's control groups, in bytes."""
    limits = [int(text) for text in _texts(proc, mount) if text.isdecimal()]
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *(limit for limit in limits if limit > 0)])


def _texts(proc: Path, mount: Path) -> Iterator[str]:
    """Yield the contents of the readable limit files; within a container only the outermost exists."""
    for line in _read(proc).splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers not in _LIMITS:
            continue
        folder, name = _LIMITS[controllers]
        path = PurePosixPath(group)
        for level in (path, *path.parents):
            yield _read(mount / folder / str(level).lstrip("/") / name).strip()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
