"""Remove secrets, and text that may quote a dataset's cell, from log lines."""

from __future__ import annotations

import re
from functools import lru_cache
from types import TracebackType
from typing import cast

from service.features.errors import FeatureAgentError

MASK = "***"
MAX_BRIEF = 256
_MAX_TEXT = 4000
_MAX_HEAD = 1000
"""Characters kept from the start of a longer text; the rest is its end, where a traceback states the error."""
_MAX_SECRET = 3000
"""Characters searched before that end, for a secret that begins there."""
_MAX_MESSAGE = 500
_MAX_FRAMES = 40
_MAX_CAUSES = 5

_SECRET = re.compile(
    r"""
      (?P<key>\bfa_[A-Za-z0-9]{1,64}_)[A-Za-z0-9_-]{8,}                             # API key: its public id stays
    | (?P<jwt>)\beyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?          # JSON Web Token
    | (?P<provider>\bsk-)[A-Za-z0-9_-]{6,}                                          # a model provider's key
    | (?P<url>\b[A-Za-z][A-Za-z0-9+.-]*://)[^\s/@]+(?=@)                            # credentials in a URL
    | (?P<header>\b(?:proxy-)?authorization\b["']?\s*[:=]\s*["']?)[^\r\n"',;}]+
    | (?P<scheme>\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{6,}
    | (?P<field>\b[\w-]*(?:password|passwd|secret|api[_-]?key|token|cookie)["']?\s*[=:]\s*)
      (?:"[^"]*"|'[^']*'|[^\s"'&,;}]+)
    """,
    re.IGNORECASE | re.VERBOSE,
)
_MARKS = ("=", ":", "fa_", "sk-", "eyj", "bearer", "basic")
"""Every text that `_SECRET` matches has one of these, and few paths do; searching for them is much faster."""
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`[^`]*`""")


def redact(text: str) -> str:
    """Mask everything that looks like a secret, cut the middle of a long text, and make it valid UTF-8."""
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if len(text) > _MAX_TEXT:
        kept = _MAX_TEXT - _MAX_HEAD
        return f"{_masked(text[:_MAX_HEAD])}…{_masked(text[-kept - _MAX_SECRET :])[-kept:]}"
    return _masked(text)


def _masked(text: str) -> str:
    lowered = text.lower()
    if not any([mark in lowered for mark in _MARKS]):  # noqa: C419 -- a list is twice as fast as a generator here
        return text
    return _SECRET.sub(lambda match: f"{match[match.lastgroup or 0]}{MASK}", text)


def brief(text: str) -> str:
    """Cut and redact a request's path or user agent."""
    return _redact_often(text[:MAX_BRIEF])


@lru_cache(maxsize=1024)
def _redact_often(text: str) -> str:
    """Redact with a cache: the same few paths and agents occur again and again, three times for each request."""
    return redact(text)


def describe(error: BaseException, depth: int = 0) -> dict[str, object]:
    """Describe an exception as plain data: cause, type, message, stack (outermost frame first, no locals).

    The cause comes first, so that a line that is cut on its way still has it. Of a chain of more than `_MAX_CAUSES`,
    the last one shown is the root.
    """
    cause = _cause(error)
    kind = type(error)
    described: dict[str, object] = {
        "type": f"{kind.__module__}.{kind.__qualname__}",
        "message": _message(error),
        "stack": _stack(error.__traceback__),
    }
    if cause is None or depth == _MAX_CAUSES:
        return described
    return {"cause": describe(_root(cause) if depth == _MAX_CAUSES - 1 else cause, depth + 1), **described}


def _cause(error: BaseException) -> BaseException | None:
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is None and isinstance(error, BaseExceptionGroup):
        return cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return cause


def _root(error: BaseException) -> BaseException:
    """Return the root of the chain; a chain may be circular."""
    seen: set[int] = set()
    while (cause := _cause(error)) is not None and id(error) not in seen:
        seen.add(id(error))
        error = cause
    return error


def _message(error: BaseException) -> str:
    """Return the message without data.

    Messages of the service's own errors and of the operating system hold no data and are kept. Any other may quote a
    cell or a prompt ("could not convert string to float: 'Ann'"; drivers add the row on further lines): only its first
    line is kept, without quoted text.
    """
    text = str(error)
    if not isinstance(error, (FeatureAgentError, OSError)):
        text = _QUOTED.sub("'…'", text.partition("\n")[0])
    return redact(text[:_MAX_MESSAGE])


def _stack(traceback: TracebackType | None) -> list[str]:
    """Return frames as `module:line function`, without values."""
    frames: list[str] = []
    while traceback is not None:
        frame = traceback.tb_frame
        module = str(frame.f_globals.get("__name__", "?"))
        frames.append(f"{module}:{traceback.tb_lineno} {frame.f_code.co_qualname}")
        traceback = traceback.tb_next
    return frames[-_MAX_FRAMES:]
