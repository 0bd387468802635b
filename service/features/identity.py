"""Define scopes, principals and API keys, which the store, the security package and the API share."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct

Scope = Literal["extractions:read", "extractions:write", "datasets:read", "datasets:write", "admin"]
SCOPES: tuple[Scope, ...] = ("extractions:read", "extractions:write", "datasets:read", "datasets:write", "admin")
DEFAULT_SCOPES: tuple[Scope, ...] = SCOPES[:4]

ShareKind = Literal["upload", "download", "stream", "wait"]
"""What a principal may have open only so many of in a process; `wait` is a request that waits for its extraction."""

MIN_JWT_SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
"""Algorithms of access tokens, each with its shortest secret: the size of the hash (RFC 7518 §3.2)."""


class Principal(Struct, frozen=True):
    """An authenticated caller. `id` owns datasets and extractions; all keys of one name act for one principal."""

    id: str
    scopes: frozenset[Scope]

    def allows(self, scope: Scope) -> bool:
        """Check whether the principal has the scope; `admin` has all."""
        return scope in self.scopes or "admin" in self.scopes


class ApiKey(Struct, frozen=True):
    """An API key as stored: only the SHA-256 of the secret (256 random bits need no salt or stretching)."""

    id: str
    """Public part of the key: 12 hexadecimal characters."""
    name: str
    """The principal that the key acts for."""
    digest: bytes
    """SHA-256 of the whole key, 32 bytes."""
    scopes: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
