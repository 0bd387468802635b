"""How a start that fails is said: one line with what, where, why and what to do, and exit status 1 or 2."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

import structlog

from service.commands.failures import CommandFailed, InputRefused
from service.features.errors import DependencyUnavailable, FeatureAgentError
from service.store.embedded import EmbeddedUnavailable
from service.store.failures import DependencyUnusable

EXPECTED = (DependencyUnusable, EmbeddedUnavailable, FeatureAgentError, OSError)
"""What a start fails with through no fault of the code."""
FOLDER_REMEDY = "Set DATA_DIR (or ARTIFACTS_URL) to a folder that this user can write."
DOCTOR = "(`feature-agent doctor` says what is wrong)"

_LOGGER: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)


@contextmanager
def opening() -> Generator[None]:
    """For what the settings name: status 2 when a setting cannot be used, 1 when what it names cannot.

    Raises InputRefused and CommandFailed.
    """
    try:
        yield
    except ValueError as error:
        raise InputRefused(str(error)) from None
    except EXPECTED as error:
        raise CommandFailed(words(error)) from None


@contextmanager
def starting(started: Callable[[], bool]) -> Generator[None]:
    """For the time from there to the end: once `started`, an unexpected error is nothing of the start's.

    Raises CommandFailed.
    """
    try:
        yield
    except EXPECTED as error:
        raise CommandFailed(words(error)) from None
    except Exception:
        if started():
            raise
        _LOGGER.exception("the start failed")
        raise CommandFailed("the start failed, and no setting explains it: the log line before this one does") from None


def words(error: Exception) -> str:
    """What the operator reads."""
    match error:
        case FeatureAgentError():
            faults = "; ".join(f"{fault.field}: {fault.message}" for fault in error.errors)
            more = (f"[{faults}]" if faults else "", DOCTOR if isinstance(error, DependencyUnavailable) else "")
            return " ".join(filter(None, (error.message, *more)))
        case OSError(filename=str(name), strerror=str(why)):
            return f"{name}: {why}. {FOLDER_REMEDY}"
        case _:
            return str(error)
