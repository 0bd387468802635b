"""The folder in which several workers keep their metrics."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.commands import serve
from service.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a data folder."""
    return Settings(_env_file=None, environment="test", data_dir=tmp_path / "data")


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the system's shared memory."""
    folder = tmp_path / "shm"
    folder.mkdir()
    monkeypatch.setattr(serve, "SHARED_MEMORY", folder)
    return folder


def test_folder_in_shared_memory_is_private(settings: Settings, memory: Path) -> None:
    """It is created when it does not exist, readable by its owner alone, and used again."""
    folder = serve.metrics_folder(settings)
    assert folder == memory / f"feature-agent-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert serve.metrics_folder(settings) == folder


def test_folder_that_others_can_write_is_not_used(settings: Settings, memory: Path, tmp_path: Path) -> None:
    """A folder with open permissions, a symbolic link, and missing shared memory all fall back to DATA_DIR."""
    name, elsewhere = f"feature-agent-{os.getuid()}", settings.data_dir / "scratch"
    (memory / name).mkdir()
    (memory / name).chmod(0o777)
    assert serve.metrics_folder(settings) == elsewhere
    (memory / name).rmdir()
    (tmp_path / "trap").mkdir(mode=0o700)
    (memory / name).symlink_to(tmp_path / "trap")
    assert serve.metrics_folder(settings) == elsewhere
    (memory / name).unlink()
    memory.rmdir()
    assert serve.metrics_folder(settings) == elsewhere
