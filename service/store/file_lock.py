"""Lock files with advisory locks, which the kernel releases when their process ends in any way."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


class FileLock:
    """Hold one handle on a lock file; two handles exclude each other, also within a process."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        """A process that inherits it holds the lock as well, until its own copy is closed."""

    def lock_shared(self) -> None:
        """Wait for a shared lock."""
        fcntl.flock(self.descriptor, fcntl.LOCK_SH)

    def lock_exclusive(self) -> None:
        """Wait for an exclusive lock."""
        fcntl.flock(self.descriptor, fcntl.LOCK_EX)

    def try_lock_exclusive(self) -> bool:
        """Take an exclusive lock in place of a shared one; False at once when another handle holds a lock."""
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Close the handle and release its lock."""
        os.close(self.descriptor)


@contextmanager
def file_lock(path: Path) -> Generator[FileLock]:
    """Open a handle for the length of a block, without taking the lock."""
    lock = FileLock(path)
    try:
        yield lock
    finally:
        lock.close()
