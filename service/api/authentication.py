"""Authenticate requests: find the credential, and the principal behind it."""

from __future__ import annotations

from litestar.types import Scope

from service.api.headers import header
from service.features.context import CURRENT
from service.features.errors import NotAuthenticated
from service.security.authenticator import Authenticator


def credential_of(scope: Scope, api_key_header: str) -> str | None:
    """Return the bearer token or API key of the request; None without one.

    `Authorization` takes precedence over the API key header. Raises NotAuthenticated for a scheme other than Bearer.
    """
    authorization = header(scope, b"authorization")
    if authorization is None:
        return header(scope, api_key_header.lower().encode("latin-1"))
    scheme, _, credential = authorization.partition(" ")
    if scheme.lower() != "bearer" or not credential.strip():
        raise NotAuthenticated("Use `Authorization: Bearer` with an access token or an API key.", reason="invalid")
    return credential.strip()


class Authentication:
    """Set `request.user` to the principal, and its id on the correlation context."""

    def __init__(self, authenticator: Authenticator, api_key_header: str) -> None:
        self._authenticator = authenticator
        self._api_key_header = api_key_header

    async def identify(self, scope: Scope) -> None:
        """Authenticate the request. Raises NotAuthenticated, and DependencyUnavailable if keys cannot be read."""
        principal = await self._authenticator.authenticate(credential_of(scope, self._api_key_header))
        scope["user"], scope["auth"] = principal, None
        if context := CURRENT.get():
            context.user_id = principal.id
