"""How a command ends badly."""

from __future__ import annotations

PORT_REMEDY = "Stop what listens there, or set {} to another port (0 takes a free one)."


class InputRefused(Exception):
    """Bad input or settings: one line, exit status 2."""


class CommandFailed(Exception):
    """The work failed: one line, exit status 1."""
