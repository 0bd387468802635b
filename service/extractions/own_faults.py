"""Decide whether an error is the service's own fault or one that the client can correct."""

from __future__ import annotations

import asyncio

from service.concurrency.deadline import is_over
from service.features.errors import FeatureAgentError

OWN_FAULTS = frozenset({"internal", "dependency", "timeout", "model"})
"""Error categories that are the service's own fault."""


def is_own_fault(error: BaseException) -> bool:
    """Check whether an error is the service's own fault: neither a refusal of the request nor a cancellation."""
    if isinstance(error, FeatureAgentError):
        return error.category in OWN_FAULTS
    return is_over() if isinstance(error, asyncio.CancelledError) else True
