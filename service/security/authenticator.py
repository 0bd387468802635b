"""Authenticate requests: find the principal behind an API key or an access token."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from service.features.errors import NotAuthenticated
from service.features.identity import ApiKey, Principal
from service.features.ports import Clock
from service.features.stores import Store
from service.security import keys
from service.security.keyring import Holder, KeyRing
from service.security.tokens import TokenIssuer

# No known input hashes to 32 zero bytes: comparing with it takes as long as with a real key, and always fails.
_NO_KEY = ApiKey("", "", bytes(32), (), datetime.min.replace(tzinfo=UTC))


class Authenticator:
    """Accept API keys, which begin with `keys.PREFIX`, and access tokens.

    Both are checked against the key's record, so revoking a key also ends the tokens issued for it, within
    `keyring.FRESH_SECONDS` in every process. Every method raises NotAuthenticated when the credential is refused, and
    DependencyUnavailable when the key is not cached and the database is unavailable.
    """

    def __init__(
        self, store: Store, tokens: TokenIssuer, clock: Clock, *, timer: Callable[[], float] = time.monotonic
    ) -> None:
        self._tokens = tokens
        self._clock = clock
        self._keyring = KeyRing(store, timer=timer)

    async def authenticate(self, credential: str | None) -> Principal:
        """Return the principal of an API key or an access token."""
        if not credential:
            raise NotAuthenticated("An API key or an access token is needed.", reason="missing")
        if credential.startswith(keys.PREFIX):
            return (await self._holder(credential, self._clock.now())).principal
        return await self._bearer(credential, self._clock.now())

    async def exchange(self, credential: str | None) -> tuple[str, Principal]:
        """Issue an access token for an API key. Tokens are not accepted: they could renew themselves for ever."""
        if not credential:
            raise NotAuthenticated("An API key is needed.", reason="missing")
        now = self._clock.now()
        holder = await self._holder(credential, now)
        return self._tokens.issue(holder.principal, now=now, key_id=holder.key.id), holder.principal

    async def _holder(self, secret: str, now: datetime) -> Holder:
        key_id = keys.parse_id(secret)
        if key_id is None:
            raise NotAuthenticated("The API key is not valid.", reason="invalid")
        holder = await self._keyring.find(key_id)
        genuine = keys.matches(_NO_KEY if holder is None else holder.key, secret)
        if holder is None or not genuine:
            raise NotAuthenticated("The API key is not valid.", reason="invalid")
        _require_active(holder.key, now)
        return holder

    async def _bearer(self, token: str, now: datetime) -> Principal:
        claims = self._tokens.read(token, now=now)
        if claims.key_id is not None:
            holder = await self._keyring.find(claims.key_id)
            if holder is None:
                raise NotAuthenticated("The API key behind the access token is gone.", reason="revoked")
            _require_active(holder.key, now)
        return claims.principal


def _require_active(key: ApiKey, now: datetime) -> None:
    state = keys.state(key, now)
    if state != "active":
        raise NotAuthenticated(f"The API key is {state}.", reason=state)
