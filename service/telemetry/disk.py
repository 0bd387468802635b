"""Measure the free space and size of a folder's file system."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path


async def disk_free_bytes(folder: Path) -> float:
    """Return the bytes that can still be written. Runs in a thread, because a network file system may block."""
    return float((await asyncio.to_thread(shutil.disk_usage, folder)).free)


async def disk_size_bytes(folder: Path) -> float:
    """Return the size of the file system in bytes."""
    return float((await asyncio.to_thread(shutil.disk_usage, folder)).total)
