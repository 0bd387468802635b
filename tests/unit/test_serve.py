"""Where several workers keep their numbers."""

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
    """What stands for the system's memory file system."""
    folder = tmp_path / "shm"
    folder.mkdir()
    monkeypatch.setattr(serve, "MEMORY", folder)
    return folder


def test_a_folder_in_memory_is_ours_alone(settings: Settings, memory: Path) -> None:
    """It is made when it is not there, readable by nobody else, and used again."""
    folder = serve.memory_of_our_own(settings)
    assert folder == memory / f"feature-agent-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert serve.memory_of_our_own(settings) == folder


def test_what_others_may_write_is_left_alone(settings: Settings, memory: Path, tmp_path: Path) -> None:
    """A folder that is open to others, or leads elsewhere, or no such place at all: the data folder it is."""
    name, elsewhere = f"feature-agent-{os.getuid()}", settings.data_dir / "scratch"
    (memory / name).mkdir()
    (memory / name).chmod(0o777)
    assert serve.memory_of_our_own(settings) == elsewhere
    (memory / name).rmdir()
    (tmp_path / "trap").mkdir(mode=0o700)
    (memory / name).symlink_to(tmp_path / "trap")
    assert serve.memory_of_our_own(settings) == elsewhere
    (memory / name).unlink()
    memory.rmdir()
    assert serve.memory_of_our_own(settings) == elsewhere
