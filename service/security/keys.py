"""Generate, parse and compare API keys.

A key reads `fa_<id>_<secret>`: a fixed prefix that secret scanners can look for, 12 hexadecimal characters that name
the key in public, and 256 random bits as 43 base64url characters. Only the SHA-256 of the whole key is stored: guessing
256 random bits is hopeless at any speed, so the slow hashes made for passwords would only slow the service.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from service.features.errors import InvalidRequest
from service.features.identity import SCOPES, ApiKey, Scope
from service.features.model import FieldError

PREFIX = "fa_"
SECRET_BYTES = 32
MAX_NAME_LENGTH = 100

_PATTERN = re.compile(r"fa_([0-9a-f]{12})_[A-Za-z0-9_-]{43}", re.ASCII)


def generate(
    name: str, scopes: Iterable[Scope], *, now: datetime, expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """Generate a key for the principal `name`: the record to store, and the key itself, which is shown only once.

    Raises InvalidRequest for a name that is empty, over 100 characters or not plain text, for no or unknown scopes,
    and for an expiry that is not in the future.
    """
    requested = frozenset(scopes)
    _validate(name, requested, now, expires_at)
    granted = tuple(sorted(requested, key=SCOPES.index))
    key_id = secrets.token_hex(6)
    secret = f"{PREFIX}{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}"
    return ApiKey(key_id, name, _digest(secret), granted, now, expires_at), secret


def parse_id(secret: str) -> str | None:
    """Return the public id within a key; None when the text does not look like a key."""
    match = _PATTERN.fullmatch(secret)
    return None if match is None else match[1]


def matches(key: ApiKey, secret: str) -> bool:
    """Compare the secret with the key's digest, in a time that does not depend on how much of it is right."""
    return hmac.compare_digest(key.digest, _digest(secret))


def state(key: ApiKey, now: datetime) -> Literal["active", "expired", "revoked"]:
    """Return the key's state at this instant.

    A revoked key is revoked at once, whatever time is recorded: the clock of the machine that wrote it may be ahead.
    """
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is not None and key.expires_at <= now:
        return "expired"
    return "active"


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _validate(name: str, scopes: frozenset[Scope], now: datetime, expires_at: datetime | None) -> None:
    faults: list[FieldError] = []
    if not (0 < len(name) <= MAX_NAME_LENGTH and name.isprintable() and name == name.strip()):
        faults.append(FieldError("name", f"Use 1 to {MAX_NAME_LENGTH} printable characters, no space at either end."))
    if not scopes or not scopes.issubset(SCOPES):
        faults.append(FieldError("scopes", f"Give one or more of: {', '.join(SCOPES)}."))
    if expires_at is not None and expires_at <= now:
        faults.append(FieldError("expires_at", "Give an instant in the future."))
    if faults:
        raise InvalidRequest(" ".join(f"{fault.field}: {fault.message}" for fault in faults), errors=faults)
