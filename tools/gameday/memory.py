"""Limit the memory of the API process by a control group of either version."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tools.gameday.monitoring import Monitoring
from tools.gameday.system import System

NAME = f"gameday-{os.getpid()}"
V1, V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
SETTLE_SECONDS = 3.0


def can_limit_memory() -> bool:
    """Tell whether this process may make control groups that limit memory."""
    return any(
        os.access(folder, os.W_OK) and (folder / marker).exists()
        for folder, marker in ((V1, "memory.limit_in_bytes"), (V2, "cgroup.subtree_control"))
    )


def _group() -> tuple[Path, str]:
    if (V1 / "memory.limit_in_bytes").exists():
        return V1 / NAME, "memory.limit_in_bytes"
    return V2 / NAME, "memory.max"


@contextmanager
def memory_pressure(system: System, _monitoring: Monitoring) -> Generator[None]:
    """Restart the API in a group that allows 2 % more than it uses; restart it without one at the end.

    Its use is measured at the same age, since it grows with the first requests. The resident pages of a process include
    pages of files that others read first and that its group does not count, so it survives at its limit.
    """
    system.api.stop()
    system.api.start()
    time.sleep(SETTLE_SECONDS)
    process = system.api.process
    assert process is not None
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    limit = int(pages * os.sysconf("SC_PAGE_SIZE") * 1.02)
    group, file = _group()
    group.mkdir()
    try:
        (group / file).write_text(str(limit))
        system.api.stop()
        system.api.start("/bin/sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$0" "$@"')
        yield
        system.api.stop()
        system.api.start()
    finally:
        time.sleep(0.5)
        group.rmdir()
