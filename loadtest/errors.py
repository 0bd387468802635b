<<<<<<< HEAD
"""Why a load test ends without a verdict."""
=======
"""The two ways in which a tool of this folder ends without a verdict."""
>>>>>>> wip-hpa

from __future__ import annotations


class BadInput(Exception):
<<<<<<< HEAD
    """An argument, a file or a service cannot be used. The message is one line; the exit status is 2."""


class NotMeasured(Exception):
    """The machine or the generator does not allow a measurement. The message is one line; the exit status is 3."""
=======
    """The input is wrong; the message says on one line what, where and what to do. Exit status 2."""


class NotMeasured(Exception):
    """The input is right but nothing could be measured; the message says why on one line. Exit status 3."""
>>>>>>> wip-hpa
