"""Parse the `Prefer` header (RFC 7240): how long the client waits for its extraction."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from msgspec import Struct

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_PARTS = re.compile(rf"(?:{_QUOTED}|[^,\"])+")
_PREFERENCE = re.compile(rf"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*(?:=\s*({_QUOTED}|[^\s;]*))?\s*(?:;.*)?")
_SECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)


class Preferences(Struct, frozen=True):
    """Hold the preferences that are supported; RFC 7240 ignores the others."""

    seconds: float
    """How long to wait for the end."""
    wait: str = ""
    """The preference as applied, empty without one; likewise the next."""
    respond_async: str = ""

    def applied(self, *, unfinished: bool) -> dict[str, str]:
        """Return the Preference-Applied header; `respond-async` is applied only if the extraction has not ended."""
        applied = [word for word in (self.respond_async if unfinished else "", self.wait) if word]
        return {"Preference-Applied": ", ".join(applied)} if applied else {}


def read_preferences(lines: Iterable[str], longest: float) -> Preferences:
    """Read the preferences in all header lines of a request; a wait is at most `longest` seconds.

    `respond-async` alone does not wait; with `wait=N` the answer 202 follows that wait anyway.
    """
    given: dict[str, str] = {}
    for name, value in _preferences(lines):
        given.setdefault(name, value)
    respond_async = "respond-async" if "respond-async" in given else ""
    asked = given.get("wait", "")
    if not _SECONDS.fullmatch(asked):
        return Preferences(0.0 if respond_async else longest, respond_async=respond_async)
    seconds = min(float(asked), longest)
    return Preferences(seconds, f"wait={seconds:g}", respond_async)


def _preferences(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    for part in _PARTS.findall(",".join(lines)):
        if found := _PREFERENCE.fullmatch(part):
            yield found[1].lower(), (found[2] or "").strip('"')
