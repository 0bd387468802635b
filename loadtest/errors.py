"""Why a load test ends without a verdict."""

from __future__ import annotations


class BadInput(Exception):
    """An argument, a file or a service cannot be used. The message is one line; the exit status is 2."""


class NotMeasured(Exception):
    """The machine or the generator does not allow a measurement. The message is one line; the exit status is 3."""
