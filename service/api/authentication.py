"""Authenticate requests: find the credential, and the principal behind it."""

from __future__ import annotations

from litestar.types import Scope

from service.api.headers import header
from service.features.context import CURRENT
from service.features.errors import NotAuthenticated
from service.security.authenticator import Authenticator
from service.security.guesses import GuessLimiter


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

    def __init__(self, authenticator: Authenticator, guesses: GuessLimiter, api_key_header: str) -> None:
        self._authenticator = authenticator
        self._guesses = guesses
        self._api_key_header = api_key_header

    async def identify(self, scope: Scope) -> None:
        """Authenticate the request.

        Raises NotAuthenticated, TooManyFailures, and DependencyUnavailable if keys cannot be read.
        """
        credential = credential_of(scope, self._api_key_header)
        if not credential:
            raise NotAuthenticated("An API key or an access token is needed.", reason="missing")
        async with self._guesses.attempt(_address(scope), credential):
            principal = await self._authenticator.authenticate(credential)
        scope["user"], scope["auth"] = principal, None
        if context := CURRENT.get():
            context.user_id = principal.id


def _address(scope: Scope) -> str:
    """Return the socket's peer, or what a trusted proxy says it is; all requests without one share the empty one."""
    return scope["client"][0] if scope["client"] else ""
