"""Issue and verify access tokens: short-lived JWTs in place of an API key, so that the key itself is sent rarely.

Claims are those of RFC 9068: `iss`, `aud`, `sub` (the principal), `client_id` (the public id of the API key that the
token was issued for), `scope` (space separated), `iat`, `exp`, `jti`. A token is signed with one HMAC algorithm, and
only that one is accepted: neither `none` nor another algorithm named in the token's header.

A signature cannot be revoked. `authenticator.py` therefore also checks that the token's key is still active.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

import jwt
import msgspec
from cachetools import TTLCache
from jwt.types import Options
from msgspec import Meta, Struct

from service.features.errors import NotAuthenticated
from service.features.identity import MIN_JWT_SECRET_BYTES, SCOPES, Principal

ISSUER = AUDIENCE = "feature-agent"
LIFETIME_SECONDS = 1800

MAX_TOKEN_LENGTH = 4096
_REMEMBERED_TOKENS = 4096
_OPTIONS: Options = {
    "require": ["iss", "aud", "sub", "scope", "iat", "exp", "jti"],
    # The caller's `now` decides on time, not the library's clock.
    "verify_exp": False,
    "verify_iat": False,
}


class Claims(Struct, frozen=True):
    """Hold the claims of a verified token."""

    principal: Principal
    key_id: str | None
    """Public id of the token's API key; None when it was issued without one."""
    expires_at: datetime


class _Payload(Struct, frozen=True):
    """The claims that are used, as the token spells them."""

    sub: Annotated[str, Meta(min_length=1)]
    scope: str
    exp: Annotated[int, Meta(ge=0, lt=253_402_300_800)]  # the last second that a datetime can hold
    client_id: str | None = None


class TokenIssuer:
    """Sign and verify access tokens of `lifetime_seconds` with one secret and one algorithm.

    Verified tokens are cached, so that verifying again costs a look-up instead of an HMAC and two JSON documents; at
    most `_REMEMBERED_TOKENS`, none beyond its lifetime. Raises ValueError for an unknown algorithm and for a secret
    shorter than the algorithm's hash.
    """

    def __init__(
        self,
        secret: str,
        algorithm: str,
        lifetime_seconds: int = LIFETIME_SECONDS,
        *,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        minimum = MIN_JWT_SECRET_BYTES.get(algorithm)
        if minimum is None:
            raise ValueError(f"The token algorithm must be one of {', '.join(MIN_JWT_SECRET_BYTES)}.")
        if len(secret.encode()) < minimum:
            raise ValueError(f"A secret for {algorithm} needs at least {minimum} bytes.")
        self.lifetime_seconds = lifetime_seconds
        self._secret = secret
        self._algorithm = algorithm
        self._verified: TTLCache[str, Claims, float] = TTLCache(_REMEMBERED_TOKENS, lifetime_seconds, timer)

    def issue(self, principal: Principal, *, now: datetime, key_id: str | None = None) -> str:
        """Issue a token for the principal and its scopes.

        With the `key_id` of an API key, the token stops working when the key does; without one, only when it expires.
        """
        issued = int(now.timestamp())
        claims: dict[str, str | int] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": principal.id,
            "scope": " ".join(scope for scope in SCOPES if scope in principal.scopes),
            "iat": issued,
            "exp": issued + self.lifetime_seconds,
            "jti": secrets.token_urlsafe(16),
        }
        if key_id is not None:
            claims["client_id"] = key_id
        return jwt.encode(claims, self._secret, algorithm=self._algorithm)

    def verify(self, token: str, *, now: datetime) -> Principal:
        """Return the token's principal. Raises NotAuthenticated, reason `invalid` or `expired`."""
        return self.read(token, now=now).principal

    def read(self, token: str, *, now: datetime) -> Claims:
        """Return the token's claims. Raises NotAuthenticated, reason `invalid` or `expired`."""
        claims = self._verified.get(token)
        if claims is None:
            claims = self._open(token)
            self._verified[token] = claims
        if claims.expires_at <= now:
            raise NotAuthenticated("The access token has expired.", reason="expired")
        return claims

    def _open(self, token: str) -> Claims:
        # Check the length first: the library decodes a token before it checks the signature.
        if len(token) > MAX_TOKEN_LENGTH or not token.isascii():
            raise _invalid()
        try:
            payload = jwt.decode(
                token, self._secret, algorithms=[self._algorithm], audience=AUDIENCE, issuer=ISSUER, options=_OPTIONS
            )
            claims = msgspec.convert(payload, _Payload)
        except (jwt.PyJWTError, msgspec.ValidationError) as fault:
            raise _invalid() from fault
        words = frozenset(claims.scope.split())
        principal = Principal(claims.sub, frozenset(scope for scope in SCOPES if scope in words))
        return Claims(principal, claims.client_id, datetime.fromtimestamp(claims.exp, UTC))


def _invalid() -> NotAuthenticated:
    return NotAuthenticated("The access token is not valid.", reason="invalid")
