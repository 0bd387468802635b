"""A small disk for tests that fill it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, kibibytes: int) -> Iterator[Path]:
    """Mount a file system of that size on the folder; skip the test without the rights to."""
    folder.mkdir()
    options = [f"size={kibibytes}k,mode=0700", "tmpfs", str(folder)]
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", *options], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("a small disk can only be mounted as root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
