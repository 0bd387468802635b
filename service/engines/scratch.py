"""Give a process a scratch folder of its own, and remove those that killed processes have left.

A process holds a lock on its folder for as long as it lives, so the next process sees which folders are abandoned,
without comparing ages or process ids.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_LOCK = ".lock"
_OWN = "process-"
_DRAFT = ".draft-"
"""A folder that has no lock yet; nobody takes it for an orphan."""


class Scratch:
    """A new folder below `parent`, made by its opener alone and readable by nobody else."""

    def __init__(self, parent: Path) -> None:
        """Make it, and remove those of processes that are gone. Raises OSError when nothing can be written there."""
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _sweep(parent)
        draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=parent))
        self._lock = os.open(draft / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.folder = draft.rename(parent / draft.name.replace(_DRAFT, _OWN))

    def close(self) -> None:
        """Remove it with all that is in it; a second call does nothing."""
        if self._lock >= 0:
            shutil.rmtree(self.folder, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


def _sweep(parent: Path) -> None:
    for folder in parent.glob(f"{_OWN}*"):
        if _belongs_to_nobody(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _belongs_to_nobody(folder: Path) -> bool:
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # somebody else is just removing it
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True
