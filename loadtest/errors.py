"""The two ways in which a tool of this folder ends without a verdict."""

from __future__ import annotations


class BadInput(Exception):
    """The input is wrong; the message says on one line what, where and what to do. Exit status 2."""


class NotMeasured(Exception):
    """The input is right but nothing could be measured; the message says why on one line. Exit status 3."""
