"""A control group around the API process, of either version."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.gameday.monitoring import Watch
from tools.gameday.system import Stand

NAME = f"gameday-{os.getpid()}"
V1, V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
YOUNG_SECONDS = 3.0


def can_squeeze() -> bool:
    """Whether this process may make control groups that limit memory."""
    return any(
        os.access(folder, os.W_OK) and (folder / marker).exists()
        for folder, marker in ((V1, "memory.limit_in_bytes"), (V2, "cgroup.subtree_control"))
    )


def _group() -> tuple[Path, str]:
    if (V1 / "memory.limit_in_bytes").exists():
        return V1 / NAME, "memory.limit_in_bytes"
    return V2 / NAME, "memory.max"


@contextmanager
def squeezed(stand: Stand, _watch: Watch) -> Iterator[None]:
    """The API starts again in a group that allows hardly more than it uses; then without.

    What it uses is measured on a process as young, since it grows with its first requests. Pages of files that others
    have read first are in what the process uses and not in what the group counts, so that it lives on at its limit.
    """
    stand.api.stop()
    stand.api.start()
    time.sleep(YOUNG_SECONDS)
    process = stand.api.process
    assert process is not None
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    limit = int(pages * os.sysconf("SC_PAGE_SIZE") * 1.02)
    group, file = _group()
    group.mkdir()
    try:
        (group / file).write_text(str(limit))
        stand.api.stop()
        stand.api.start("/bin/sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$0" "$@"')
        yield
        stand.api.stop()
        stand.api.start()
    finally:
        time.sleep(0.5)
        group.rmdir()
