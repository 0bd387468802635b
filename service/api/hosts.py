"""Check the Host header against the allowed names; its port is ignored."""

from __future__ import annotations

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from service.api.errors import HostNotAllowed
from service.api.headers import header


class AllowedHosts:
    """Refuse a request with another Host; probes and scrapes use addresses and are exempt."""

    def __init__(self, allowed: tuple[str, ...]) -> None:
        self._any = "*" in allowed
        self._names = frozenset(name.lower() for name in allowed if not name.startswith("*."))
        self._suffixes = tuple(name[1:].lower() for name in allowed if name.startswith("*."))

    def __call__(self, app: ASGIApp) -> ASGIApp:
        """Wrap an application, so that it raises HostNotAllowed."""

        async def checked(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == ScopeType.HTTP and not _exempt(scope["path"]):
                self._check(header(scope, b"host") or "")
            await app(scope, receive, send)

        return app if self._any else checked

    def _check(self, host: str) -> None:
        if not self.allows(host):
            raise HostNotAllowed("This service does not answer for the host that the request names.")

    def allows(self, host: str) -> bool:
        """Check the value of a Host header (name, IPv4 or bracketed IPv6 address, with or without port)."""
        name = host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
        name = name.lower().rstrip(".")
        return name in self._names or name.endswith(self._suffixes)


def _exempt(path: str) -> bool:
    return path.startswith("/health") or path == "/metrics"
