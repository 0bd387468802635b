from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from service.telemetry.disk import disk_free_bytes, disk_size_bytes


async def test_room_is_that_of_the_folders_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Free is what can still be written, size is everything; of the file system of the given folder."""
    asked: list[object] = []

    def usage(folder: object) -> object:
        asked.append(folder)
        return shutil._ntuple_diskusage(total=100, used=60, free=30)  # type: ignore[attr-defined]

    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert (await disk_free_bytes(tmp_path), await disk_size_bytes(tmp_path)) == (30.0, 100.0)
    assert asked == [tmp_path, tmp_path]


async def test_a_folder_that_is_gone_is_an_error(tmp_path: Path) -> None:
    """An unreachable file system raises: the monitor keeps the last value."""
    with pytest.raises(OSError, match="gone"):
        await disk_free_bytes(tmp_path / "gone")
