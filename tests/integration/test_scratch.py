"""Scratch folders of real processes: kept while they live, gone after they were killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from service.engines.scratch import Scratch

PROCESS = """
import sys, time
from pathlib import Path
from service.engines.scratch import Scratch

scratch = Scratch(Path(sys.argv[1]))
(scratch.folder / "job-1").mkdir()
print(scratch.folder, flush=True)
time.sleep(60)
"""


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    """The next process removes the folder of one that was killed, and leaves alone that of one that lives."""
    started = [
        subprocess.Popen([sys.executable, "-c", PROCESS, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    folders = [Path(process.stdout.readline().strip()) for process in started if process.stdout]
    dead, alive = folders
    started[0].kill()
    started[0].communicate()
    mine = Scratch(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([alive, mine.folder])
    assert (alive / "job-1").exists()
    assert not dead.exists()
    started[1].kill()
    started[1].communicate()
    other = Scratch(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([mine.folder, other.folder])
    for scratch in (mine, other):
        scratch.close()
        scratch.close()
    assert list(tmp_path.iterdir()) == []


def test_nobody_else_looks_in(tmp_path: Path) -> None:
    """The folder is its owner's alone, and one that is still being made, or removed, is nobody's orphan."""
    parent = tmp_path / "scratch"
    (parent / ".draft-x").mkdir(parents=True)
    (parent / "process-x").mkdir()
    scratch = Scratch(parent)
    assert scratch.folder.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in parent.iterdir()) == sorted([".draft-x", "process-x", scratch.folder.name])
    scratch.close()
