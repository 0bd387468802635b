"""Access tokens: short-lived JWTs that stand for an API key, so that the key itself travels rarely.

Claims are those of RFC 9068: `iss`, `aud`, `sub` (the principal), `client_id` (the public id of the API key that the
token was made from), `scope` (space separated), `iat`, `exp`, `jti`. A token is signed with one HMAC algorithm, and
only that one is accepted on the way back: neither `none` nor another algorithm named in the token's header counts.

A signature cannot be taken back. Whoever accepts a token therefore also asks whether its key still stands; see
`authenticator.py`.
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
from service.features.identity import SCOPES, Principal

ISSUER = AUDIENCE = "feature-agent"
LIFETIME_SECONDS = 1800
MINIMUM_SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
"""Algorithms on offer, each with the shortest secret that RFC 7518 §3.2 allows it: the size of its hash."""

_LONGEST_TOKEN = 4096
_REMEMBERED_TOKENS = 4096
_OPTIONS: Options = {
    "require": ["iss", "aud", "sub", "scope", "iat", "exp", "jti"],
    # The caller's `now` decides on time, not the library's clock.
    "verify_exp": False,
    "verify_iat": False,
}


class Claims(Struct, frozen=True):
    """What a verified token says."""

    principal: Principal
    key_id: str | None
    """Public id of the API key behind the token; None when it was made without one."""
    expires_at: datetime


class _Wire(Struct, frozen=True):
    """The claims that are read, as they stand in the token."""

    sub: Annotated[str, Meta(min_length=1)]
    scope: str
    exp: Annotated[int, Meta(ge=0, lt=253_402_300_800)]  # the last second that a datetime can hold
    client_id: str | None = None


class TokenIssuer:
    """Signs and verifies access tokens of `lifetime_seconds` with one secret and one algorithm.

    Verified tokens are remembered, so that verifying again costs a look-up instead of an HMAC and two JSON documents;
    at most 4096 of them, none beyond its lifetime. Raises ValueError for an algorithm that is not on offer and for a
    secret shorter than the algorithm's hash.
    """

    def __init__(
        self,
        secret: str,
        algorithm: str,
        lifetime_seconds: int = LIFETIME_SECONDS,
        *,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        minimum = MINIMUM_SECRET_BYTES.get(algorithm)
        if minimum is None:
            raise ValueError(f"The token algorithm must be one of {', '.join(MINIMUM_SECRET_BYTES)}.")
        if len(secret.encode()) < minimum:
            raise ValueError(f"A secret for {algorithm} needs at least {minimum} bytes.")
        self.lifetime_seconds = lifetime_seconds
        self._secret = secret
        self._algorithm = algorithm
        self._verified: TTLCache[str, Claims, float] = TTLCache(_REMEMBERED_TOKENS, lifetime_seconds, timer)

    def issue(self, principal: Principal, *, now: datetime, key_id: str | None = None) -> str:
        """Sign a token for the principal and its scopes.

        With the `key_id` of the API key that asked for it, the token stops working when the key does. Without one
        nothing but its expiry ends it.
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
        """The principal that the token speaks for. Raises NotAuthenticated, reason `invalid` or `expired`."""
        return self.read(token, now=now).principal

    def read(self, token: str, *, now: datetime) -> Claims:
        """The token's claims. Raises NotAuthenticated, reason `invalid` or `expired`."""
        claims = self._verified.get(token)
        if claims is None:
            claims = self._open(token)
            self._verified[token] = claims
        if claims.expires_at <= now:
            raise NotAuthenticated("The access token has expired.", reason="expired")
        return claims

    def _open(self, token: str) -> Claims:
        # The length is bounded first: what an attacker sends is otherwise decoded before its signature is known.
        if len(token) > _LONGEST_TOKEN or not token.isascii():
            raise _invalid()
        try:
            payload = jwt.decode(
                token, self._secret, algorithms=[self._algorithm], audience=AUDIENCE, issuer=ISSUER, options=_OPTIONS
            )
            wire = msgspec.convert(payload, _Wire)
        except (jwt.PyJWTError, msgspec.ValidationError) as fault:
            raise _invalid() from fault
        words = frozenset(wire.scope.split())
        principal = Principal(wire.sub, frozenset(scope for scope in SCOPES if scope in words))
        return Claims(principal, wire.client_id, datetime.fromtimestamp(wire.exp, UTC))


def _invalid() -> NotAuthenticated:
    return NotAuthenticated("The access token is not valid.", reason="invalid")
