"""Report a failed start in one line that says what failed, where, why and how to fix it; exit status 1 or 2."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

import structlog

from service.commands.failures import CommandFailed, InputRefused
from service.features.errors import DependencyUnavailable, FeatureAgentError
from service.store.embedded import EmbeddedUnavailable
from service.store.failures import DependencyUnusable

EXPECTED = (DependencyUnusable, EmbeddedUnavailable, FeatureAgentError, OSError)
"""What a start raises when the environment is at fault, not the code."""
FOLDER_REMEDY = "Set DATA_DIR (or ARTIFACTS_URL) to a folder that this user can write."
DOCTOR = "(`feature-agent doctor` says what is wrong)"

_LOGGER: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)


@contextmanager
def opening() -> Generator[None]:
    """Translate errors of opening what the settings name.

    Raises InputRefused when a setting cannot be used, and CommandFailed when what it names cannot be reached.
    """
    try:
        yield
    except ValueError as error:
        raise InputRefused(str(error)) from None
    except EXPECTED as error:
        raise CommandFailed(describe(error)) from None


@contextmanager
def starting(started: Callable[[], bool]) -> Generator[None]:
    """Translate errors from the start to the end of the process; unexpected ones only until `started` is true.

    Raises CommandFailed.
    """
    try:
        yield
    except EXPECTED as error:
        raise CommandFailed(describe(error)) from None
    except Exception:
        if started():
            raise
        _LOGGER.exception("the start failed")
        raise CommandFailed("the start failed, and no setting explains it: the log line before this one does") from None


def describe(error: Exception) -> str:
    """Describe an error to the operator in one line."""
    match error:
        case FeatureAgentError():
            faults = "; ".join(f"{fault.field}: {fault.message}" for fault in error.errors)
            more = (f"[{faults}]" if faults else "", DOCTOR if isinstance(error, DependencyUnavailable) else "")
            return " ".join(filter(None, (error.message, *more)))
        case OSError(filename=str(name), strerror=str(why)):
            return f"{name}: {why}. {FOLDER_REMEDY}"
        case _:
            return str(error)
