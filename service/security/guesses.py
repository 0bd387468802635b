"""Limit how many invalid credentials of one address are looked at, before authentication does any work.

Each address has a token bucket that refills continuously: an invalid credential spends a token, any other gives its
token back. Without a token, a request is refused unread. So that guesses do not lock out others behind the same
address, a proxy for example, a credential that was valid before always passes, and one that comes back after its
`Retry-After` has a bucket of its own, which guesses that come once do not empty.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from ipaddress import AddressValueError, IPv6Address, IPv6Network

from cachetools import LRUCache, TTLCache

from service.features.errors import NotAuthenticated, TooManyFailures

MINUTE_SECONDS = 60.0
MAX_ADDRESSES = 10_000
MAX_VALID = 10_000
"""Credentials that were valid and are remembered, the most recently used."""
MAX_REFUSED = 10_000
REFUSED_SECONDS = 60.0
"""How long a credential that was refused unread is expected back."""
MAX_RETRY_SECONDS = 10
NETWORK_BITS = 64
"""Of an IPv6 address: one customer has at least so large a network."""


class GuessLimiter:
    """Keep a bucket of `per_minute` tokens, refilled at that rate, for each address; for one event loop."""

    def __init__(self, per_minute: int, *, timer: Callable[[], float] = time.monotonic) -> None:
        """0 is no limit."""
        self._per_minute = per_minute
        self._timer = timer
        self._buckets: LRUCache[tuple[str, bool], _Bucket] = LRUCache(MAX_ADDRESSES)
        self._valid: LRUCache[bytes, bool] = LRUCache(MAX_VALID)
        self._refused: TTLCache[bytes, float, float] = TTLCache(MAX_REFUSED, REFUSED_SECONDS, timer)

    @asynccontextmanager
    async def attempt(self, address: str, credential: str) -> AsyncGenerator[None]:
        """Surround an authentication, which raises NotAuthenticated when the credential is refused.

        Raises TooManyFailures, before the block, when the address has no token left.
        """
        if not self._per_minute:
            yield
            return
        digest = hashlib.sha256(credential.encode()).digest()
        bucket = None if self._valid.get(digest, False) else await self._take(_network(address), digest)
        try:
            yield
        except NotAuthenticated as refusal:
            self._valid.pop(digest, None)
            if bucket is not None:
                bucket.release(spent=refusal.reason == "invalid")
            raise
        except BaseException:
            if bucket is not None:
                bucket.release(spent=False)
            raise
        self._valid[digest] = True
        if bucket is not None:
            bucket.release(spent=False)

    async def _take(self, network: str, digest: bytes) -> _Bucket:
        """Take a token of the network's bucket, or of the one for credentials that come back."""
        bucket = self._bucket(network, returning=False)
        if await bucket.take():
            return bucket
        if self._timer() - self._refused.get(digest, math.inf) >= self._retry_seconds:
            bucket = self._bucket(network, returning=True)
            if await bucket.take():
                self._refused.pop(digest, None)
                return bucket
        self._refused.setdefault(digest, self._timer())
        raise TooManyFailures(
            "Too many credentials from your address were refused; try again later.", retry_after=self._retry_seconds
        )

    @property
    def _retry_seconds(self) -> int:
        return min(MAX_RETRY_SECONDS, math.ceil(MINUTE_SECONDS / self._per_minute))

    def _bucket(self, network: str, *, returning: bool) -> _Bucket:
        bucket = self._buckets.get((network, returning))
        if bucket is None:
            bucket = self._buckets[network, returning] = _Bucket(self._per_minute, self._timer)
        return bucket


class _Bucket:
    """Tokens that refill continuously, and those that are held by attempts whose outcome is not known yet."""

    def __init__(self, size: int, timer: Callable[[], float]) -> None:
        self._size = size
        self._timer = timer
        self._tokens = float(size)
        self._counted_at = timer()
        self._held = 0
        self._released = asyncio.Event()

    async def take(self) -> bool:
        """Hold a token. While there is none, wait as long as one that is held may be given back; else return False."""
        self._refill()
        while self._tokens < 1 and self._held:
            self._released.clear()
            await self._released.wait()
            self._refill()
        if self._tokens < 1:
            return False
        self._tokens -= 1
        self._held += 1
        return True

    def release(self, *, spent: bool) -> None:
        """End the attempt that held a token, which is gone when it is `spent`."""
        self._held -= 1
        if not spent:
            self._tokens = min(float(self._size), self._tokens + 1)
        self._released.set()

    def _refill(self) -> None:
        now = self._timer()
        gained = (now - self._counted_at) * self._size / MINUTE_SECONDS
        self._tokens, self._counted_at = min(float(self._size), self._tokens + gained), now


def _network(address: str) -> str:
    """Return what counts as one address: that of IPv4, also mapped into IPv6, and the /64 network of IPv6."""
    if ":" not in address:
        return address
    try:
        parsed = IPv6Address(address)
    except AddressValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Network((int(parsed), NETWORK_BITS), strict=False))
