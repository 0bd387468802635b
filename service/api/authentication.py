"""Who calls: the credential of a request, and the middleware that turns it into a principal."""

from __future__ import annotations

from typing import Any

from litestar.connection import ASGIConnection
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult
from litestar.types import ASGIApp

from service.api.services import Authenticator
from service.features.context import CURRENT
from service.features.errors import NotAuthenticated


def credential_of(connection: ASGIConnection[Any, Any, Any, Any], api_key_header: str) -> str | None:
    """The bearer token or API key that the request carries; None without one.

    `Authorization` wins over the API key header. Raises NotAuthenticated for a scheme other than Bearer.
    """
    authorization = connection.headers.get("authorization")
    if authorization is None:
        return connection.headers.get(api_key_header)
    scheme, _, credential = authorization.partition(" ")
    if scheme.lower() != "bearer" or not credential.strip():
        raise NotAuthenticated("Use `Authorization: Bearer` with an access token or an API key.", reason="invalid")
    return credential.strip()


class Authentication(AbstractAuthenticationMiddleware):
    """Sets `request.user` to the principal, and its id on the correlation context."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator, api_key_header: str) -> None:
        super().__init__(app)
        self._authenticator = authenticator
        self._api_key_header = api_key_header

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        """Raises NotAuthenticated, and DependencyUnavailable when keys cannot be looked up."""
        credential = credential_of(connection, self._api_key_header)
        principal = await self._authenticator.authenticate(credential)
        if context := CURRENT.get():
            context.user_id = principal.id
        return AuthenticationResult(user=principal, auth=None)
