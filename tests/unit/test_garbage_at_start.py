"""The collector's settings in a process of its own, whose collector may be turned off."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc
from service.commands.garbage import THRESHOLDS, resting, rest, settle

class Knot:
    def __init__(self):
        self.self = self
    def __del__(self):
        gone.append(1)

gone = []
with resting():
    assert not gc.isenabled()
    kept = [[number] for number in range(10_000)]
    Knot()
assert gc.isenabled() and gc.get_freeze_count() > 10_000 and not gone
rest()
assert not gc.isenabled()
Knot()
settle()
assert gc.isenabled() and gc.get_threshold() == THRESHOLDS
assert len(gone) == 2, "what starting has left is still there"
assert gc.get_freeze_count() > 10_000
Knot()
gc.collect()
assert len(gone) == 3, "nothing is cleared away any more"
try:
    with resting():
        raise KeyError
except KeyError:
    assert gc.isenabled()
print("seen")
"""


def test_at_rest_while_starting_then_at_work() -> None:
    """Starting is not looked at, what it leaves is cleared away once, and later garbage is collected as ever."""
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("seen\n", "")


MEMORY = """
import ctypes, gc
from pathlib import Path
from service.commands.garbage import rest, settle

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

rest()
kept, dropped = [], []
for number in range(2_000):
    dropped.append(bytearray(20_000))
    kept.append(bytearray(1_000))  # above each piece, so that the heap does not shrink by itself
dropped.clear()
before = resident()
settle()
print(before - resident() > 20_000_000 if hasattr(ctypes.CDLL(None), "malloc_trim") else True)
"""


def test_what_starting_took_and_left_is_given_back() -> None:
    """Memory that is free after the start goes back to the system, where the C library can return it."""
    ran = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("True\n", "")
