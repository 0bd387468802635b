"""The command `hpa`."""

from __future__ import annotations

from typing import Any


def add_hpa(commands: Any) -> None:
    """Add `hpa`."""
