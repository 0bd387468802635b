"""Which host names the service answers for; the port of the Host header does not matter."""

from __future__ import annotations

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from service.api.errors import HostNotAllowed
from service.api.headers import header


class AllowedHosts(ASGIMiddleware):
    """Refuses a request whose Host header names another host; probes and scrapes come by address and are exempt."""

    scopes = (ScopeType.HTTP,)
    exclude_path_pattern = (r"^/health", r"^/metrics$")

    def __init__(self, allowed: tuple[str, ...]) -> None:
        self._any = "*" in allowed
        self._names = frozenset(name.lower() for name in allowed if not name.startswith("*."))
        self._suffixes = tuple(name[1:].lower() for name in allowed if name.startswith("*."))

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Pass the request on. Raises HostNotAllowed."""
        if not self._any and not self.allows(header(scope, b"host") or ""):
            raise HostNotAllowed("This service does not answer for the host that the request names.")
        await next_app(scope, receive, send)

    def allows(self, host: str) -> bool:
        """Whether the value of a Host header (name, IPv4 or bracketed IPv6 address, with or without port) is served."""
        name = host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
        name = name.lower().rstrip(".")
        return name in self._names or name.endswith(self._suffixes)
