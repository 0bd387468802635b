"""Advisory locks on files: the kernel drops them with their process, however that ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


class FileLock:
    """One handle on a lock file; two handles exclude each other, also within a process."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        """A process that inherits it holds the lock as well, until its own copy is closed."""

    def share(self) -> None:
        """Wait for a lock that others may share."""
        fcntl.flock(self.descriptor, fcntl.LOCK_SH)

    def own(self) -> None:
        """Wait for a lock that nobody shares."""
        fcntl.flock(self.descriptor, fcntl.LOCK_EX)

    def try_own(self) -> bool:
        """Take a lock that nobody shares, giving up a shared one; False at once when somebody else has it."""
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Give the handle, and the lock with it, up."""
        os.close(self.descriptor)


@contextmanager
def file_lock(path: Path) -> Generator[FileLock]:
    """A handle for the length of a block; it holds nothing at first."""
    lock = FileLock(path)
    try:
        yield lock
    finally:
        lock.close()
