"""Define the error for settings that no model can be built from; it imports no agent library."""

from __future__ import annotations


class ModelConfigurationError(ValueError):
    """The configured model cannot be built; the message says how to correct it."""
