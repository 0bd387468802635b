"""Garbage collection while a process starts; each test in a process of its own, whose collector it may turn off."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc
from service.commands.garbage import THRESHOLDS, freeze_after_startup, gc_paused, pause_gc

class Knot:
    def __init__(self):
        self.self = self
    def __del__(self):
        gone.append(1)

gone = []
with gc_paused():
    assert not gc.isenabled()
    kept = [[number] for number in range(10_000)]
    Knot()
assert gc.isenabled() and gc.get_freeze_count() > 10_000 and not gone
pause_gc()
assert not gc.isenabled()
Knot()
freeze_after_startup()
assert gc.isenabled() and gc.get_threshold() == THRESHOLDS
assert len(gone) == 2, "the garbage of the start is still there"
assert gc.get_freeze_count() > 10_000
Knot()
gc.collect()
assert len(gone) == 3, "garbage is not collected any more"
try:
    with gc_paused():
        raise KeyError
except KeyError:
    assert gc.isenabled()
print("passed")
"""


def test_garbage_of_the_start_is_collected_once_and_later_garbage_as_usual() -> None:
    """The collector is off during the start, then collects its garbage once, exempts the rest, and works as usual."""
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("passed\n", "")


MEMORY = """
import ctypes, gc
from pathlib import Path
from service.commands.garbage import freeze_after_startup, pause_gc

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

pause_gc()
kept, dropped = [], []
for number in range(2_000):
    dropped.append(bytearray(20_000))
    kept.append(bytearray(1_000))  # above each piece, so that the heap does not shrink by itself
dropped.clear()
before = resident()
freeze_after_startup()
print(before - resident() > 20_000_000 if hasattr(ctypes.CDLL(None), "malloc_trim") else True)
"""


def test_memory_freed_by_the_start_is_returned_to_the_system() -> None:
    """Free memory goes back to the system after the start, where the C library can return it."""
    ran = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("True\n", "")
