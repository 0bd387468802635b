"""The errors that end a command."""

from __future__ import annotations

PORT_REMEDY = "Stop what listens there, or set {} to another port (0 takes a free one)."


class InputRefused(Exception):
    """Input or settings cannot be used; ends the command with this one line and exit status 2."""


class CommandFailed(Exception):
    """The work failed; ends the command with this one line and exit status 1."""
