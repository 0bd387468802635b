"""What a principal may do: one guard for each scope, listed on the routes that need it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from service.features.errors import NotAuthorized
from service.features.identity import Principal, Scope

Guard = Callable[[ASGIConnection[Any, Any, Any, Any], BaseRouteHandler], Awaitable[None]]


def requires(scope: Scope) -> Guard:
    """A guard that raises NotAuthorized unless the principal holds the scope.

    It awaits nothing; the framework runs guards that are plain functions in a thread, at fifty times the price.
    """

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        principal: Principal = connection.user
        if not principal.allows(scope):
            raise NotAuthorized(f"This needs the scope {scope}.")

    return guard


reads_datasets = requires("datasets:read")
writes_datasets = requires("datasets:write")
reads_extractions = requires("extractions:read")
writes_extractions = requires("extractions:write")
