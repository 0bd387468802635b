"""How much room the file system of a folder has."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path


async def disk_free_bytes(folder: Path) -> float:
    """Bytes that may still be written there. In a thread: a network's file system can keep its caller waiting."""
    return float((await asyncio.to_thread(shutil.disk_usage, folder)).free)


async def disk_size_bytes(folder: Path) -> float:
    """Bytes that the file system has in all."""
    return float((await asyncio.to_thread(shutil.disk_usage, folder)).total)
