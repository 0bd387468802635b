"""Authorize requests: a route names the scopes in its `opt`, one of which it needs; they are checked before the call.

The framework's own guards get a copy of the route each time, which takes as long as answering.
"""

from __future__ import annotations

from typing import Final

from litestar.types import Scope

from service.features.errors import NotAuthorized
from service.features.identity import Principal
from service.features.identity import Scope as Permission

_NEEDS: Final = "needs"


def _needs(*permissions: Permission) -> dict[str, tuple[Permission, ...]]:
    return {_NEEDS: permissions}


reads_datasets = _needs("datasets:read")
writes_datasets = _needs("datasets:write")
reads_extractions = _needs("extractions:read")
writes_extractions = _needs("extractions:write")
reads_anything = _needs("datasets:read", "extractions:read")


def authorize(scope: Scope) -> None:
    """Raise NotAuthorized unless the principal has one of the scopes that the route needs, if any."""
    needed: tuple[Permission, ...] = scope["route_handler"].opt.get(_NEEDS, ())
    principal: Principal = scope["user"]
    if needed and not any(principal.allows(permission) for permission in needed):
        raise NotAuthorized(f"This needs the scope {' or '.join(needed)}.")
