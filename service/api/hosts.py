"""Check the Host header against the allowed names; its port is ignored.

Servers differ in which of two equal fields they pass on first, and some pass on a Host that is none. The service's own
refuses such requests before they come here (`edge/protocol.py`); under any other this check is the only one.
"""

from __future__ import annotations

import re

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from service.api.errors import HostNotAllowed, MalformedRequest

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{0,5}))?", re.ASCII)
"""Name, IPv4 or bracketed IPv6 address, and port: no user, no path (RFC 9110, 7.2)."""
_MAX_PORT = 65_535
_SINGLE = (b"host", b"authorization")


class AllowedHosts:
    """Refuse a request with another Host, or with two; probes use addresses and are exempt."""

    def __init__(self, allowed: tuple[str, ...]) -> None:
        self._any = "*" in allowed
        self._names = frozenset(name.lower() for name in allowed if not name.startswith("*."))
        self._suffixes = tuple(name[1:].lower() for name in allowed if name.startswith("*."))

    def __call__(self, app: ASGIApp) -> ASGIApp:
        """Wrap an application, so that it raises HostNotAllowed."""

        async def checked(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == ScopeType.HTTP and not _exempt(scope["path"]):
                self._check(scope)
            await app(scope, receive, send)

        return checked

    def _check(self, scope: Scope) -> None:
        found = [(name, value) for name, value in scope["headers"] if name in _SINGLE]
        if len(found) != len({name for name, _ in found}):
            raise MalformedRequest("Send one Host field and at most one Authorization field.")
        host = next((value for name, value in found if name == b"host"), b"").decode("latin-1")
        if not self.allows(host):
            raise HostNotAllowed("This service does not answer for the host that the request names.")

    def allows(self, host: str) -> bool:
        """Check the value of a Host header (name, IPv4 or bracketed IPv6 address, with or without port)."""
        if self._any:
            return True
        found = _HOST.fullmatch(host)
        if found is None or int(found[2] or 0) > _MAX_PORT:
            return False
        name = found[1].lower().rstrip(".")
        return name in self._names or name.endswith(self._suffixes)


def _exempt(path: str) -> bool:
    return path.startswith("/health")
