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


def _needs(*permissions: Permission) -> dict[str, tuple[Permission, ...]]:
    return {_NEEDS: permissions}


reads_datasets = _needs("datasets:read")
writes_datasets = _needs("datasets:write")
reads_extractions = _needs("extractions:read")
writes_extractions = _needs("extractions:write")
reads_anything = _needs("datasets:read", "extractions:read")


def takes(kind: ShareKind) -> dict[str, Any]:
    """Bound the route's open requests of one principal."""
    return {_TAKES: kind}


def authorize(scope: Scope) -> None:
    """Raise NotAuthorized unless the principal has one of the scopes that the route needs, if any."""
    needed: tuple[Permission, ...] = scope["route_handler"].opt.get(_NEEDS, ())
    principal: Principal = scope["user"]
    if needed and not any(principal.allows(permission) for permission in needed):
        raise NotAuthorized(f"This needs the scope {' or '.join(needed)}.")


def share(scope: Scope, shares: Shares) -> AbstractContextManager[None]:
    """Hold the principal's place for a request of this route, if it takes one. The block raises TooManyAtOnce."""
    kind: ShareKind | None = scope["route_handler"].opt.get(_TAKES)
    principal: Principal = scope["user"]
    return nullcontext() if kind is None else shares.hold(principal.id, kind)
