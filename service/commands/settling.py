"""What a process that has started keeps for good, kept out of the garbage collector's sight."""

from __future__ import annotations

import gc


def settle() -> None:
    """Once started: collect what starting left, and take what stays out of all later collections.

    Modules, models and routes are hundreds of thousands of objects that live as long as the process. A full collection
    that walks over them stops everything for some hundred milliseconds, health checks too.
    """
    gc.collect()
    gc.freeze()
