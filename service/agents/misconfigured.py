"""The error of settings that no model can be built from, for those who tell it and import no agent library."""

from __future__ import annotations


class ModelConfigurationError(ValueError):
    """The configured model cannot be built; the message says what to do about it."""
