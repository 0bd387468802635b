"""Authorize requests, and bound those that are open at once: a route says in its `opt` what it needs and takes.

The framework's own guards get a copy of the route each time, which takes as long as answering.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from litestar.types import Scope

from service.features.errors import NotAuthorized
from service.features.identity import Principal, ShareKind
from service.features.identity import Scope as Permission
from service.security.shares import Shares

_NEEDS: Final = "needs"
_TAKES: Final = "takes"


def _needs(permission: Permission) -> dict[str, Permission]:
    return {_NEEDS: permission}


reads_datasets = _needs("datasets:read")
writes_datasets = _needs("datasets:write")
reads_extractions = _needs("extractions:read")
writes_extractions = _needs("extractions:write")


def takes(kind: ShareKind) -> dict[str, Any]:
    """Bound the route's open requests of one principal."""
    return {_TAKES: kind}


def authorize(scope: Scope) -> None:
    """Raise NotAuthorized unless the principal has the scope that the route needs, if any."""
    needed: Permission | None = scope["route_handler"].opt.get(_NEEDS)
    principal: Principal = scope["user"]
    if needed is not None and not principal.allows(needed):
        raise NotAuthorized(f"This needs the scope {needed}.")


def share(scope: Scope, shares: Shares) -> AbstractContextManager[None]:
    """Hold the principal's place for a request of this route, if it takes one. The block raises TooManyAtOnce."""
    kind: ShareKind | None = scope["route_handler"].opt.get(_TAKES)
    principal: Principal = scope["user"]
    return nullcontext() if kind is None else shares.hold(principal.id, kind)
