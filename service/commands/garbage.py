"""The garbage collector in a process's life: at rest while it starts, then told that what it started with stays.

Starting makes 200 000 objects that live as long as the process, and the collector would look at them again and again:
a sixth of the time that imports take, and a tenth of a second each time all are looked at while requests wait.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
from collections.abc import Generator
from contextlib import contextmanager

THRESHOLDS = (5_000, 20, 20)
"""Objects made, less those that are gone, until the youngest are looked at (Python's own: 700), and how often that goes
before older ones are. What is not in a cycle goes at once whatever they are; measured, requests take 5 to 10 % less."""


@contextmanager
def resting() -> Generator[None]:
    """Import something large in the block; what it made is not looked at until `settle`."""
    gc.disable()
    try:
        yield
    finally:
        _keep()
        gc.enable()


def rest() -> None:
    """The process is starting; `settle` must follow."""
    gc.disable()


def settle() -> None:
    """It has started: clear away what starting has left, and look at what comes from now on."""
    gc.unfreeze()
    gc.collect()
    _give_back()
    _keep()
    gc.set_threshold(*THRESHOLDS)
    gc.enable()


def _give_back() -> None:
    """Return to the system what imports took and left: 15 MiB with a worker inside. Only glibc has the call."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _keep() -> None:
    """Until the process ends: extension modules complain of what the last collection does not reach."""
    gc.freeze()
    atexit.unregister(gc.unfreeze)
    atexit.register(gc.unfreeze)
