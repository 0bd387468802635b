"""Authorize requests: a route names the scope that it needs in its `opt`, which is checked before the call.

The framework's own guards get a copy of the route each time, which takes as long as answering.
"""

from __future__ import annotations

from typing import Final

from litestar.types import Scope

from service.features.errors import NotAuthorized
from service.features.identity import Principal
from service.features.identity import Scope as Permission

_NEEDS: Final = "needs"


def _needs(permission: Permission) -> dict[str, Permission]:
    return {_NEEDS: permission}


reads_datasets = _needs("datasets:read")
writes_datasets = _needs("datasets:write")
reads_extractions = _needs("extractions:read")
writes_extractions = _needs("extractions:write")


def authorize(scope: Scope) -> None:
    """Raise NotAuthorized unless the principal has the scope that the route needs, if any."""
    needed: Permission | None = scope["route_handler"].opt.get(_NEEDS)
    principal: Principal = scope["user"]
    if needed is not None and not principal.allows(needed):
        raise NotAuthorized(f"This needs the scope {needed}.")
