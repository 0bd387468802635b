"""Whose fault an error is: the service answers for some, and the client can correct the others."""

from __future__ import annotations

import asyncio

from service.concurrency.deadline import is_over
from service.features.errors import FeatureAgentError

OWN_FAULTS = frozenset({"internal", "dependency", "timeout", "model"})
"""Categories of errors for which the service answers."""


def is_own_fault(error: BaseException) -> bool:
    """Whether it is an error of the service's own: no refusal of a request, and nothing that was only called off."""
    if isinstance(error, FeatureAgentError):
        return error.category in OWN_FAULTS
    return is_over() if isinstance(error, asyncio.CancelledError) else True
