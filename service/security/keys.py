"""API keys: how they are made, read and compared.

A key reads `fa_<id>_<secret>`: a fixed prefix that secret scanners can look for, 12 hexadecimal characters that name
the key in public, and 256 random bits as 43 base64url characters. Only the SHA-256 of the whole is kept: a guess at 256
random bits is hopeless at any speed, so the slow hashes made for passwords would only slow the service.
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
NAME_LENGTH = 100

_FORM = re.compile(r"fa_([0-9a-f]{12})_[A-Za-z0-9_-]{43}", re.ASCII)


def generate(
    name: str, scopes: Iterable[Scope], *, now: datetime, expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """Make a key for the principal `name`: the record to store, and the secret, which is shown once and never again.

    Raises InvalidRequest for a name that is empty, over 100 characters or not plain text, for no or unknown scopes,
    and for an expiry that is not in the future.
    """
    wanted = frozenset(scopes)
    _require_sound(name, wanted, now, expires_at)
    granted = tuple(sorted(wanted, key=SCOPES.index))
    key_id = secrets.token_hex(6)
    secret = f"{PREFIX}{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}"
    return ApiKey(key_id, name, _digest(secret), granted, now, expires_at), secret


def parse_id(secret: str) -> str | None:
    """The public id within a key, or None when the text is not of a key's form."""
    form = _FORM.fullmatch(secret)
    return None if form is None else form[1]


def matches(key: ApiKey, secret: str) -> bool:
    """Whether the secret is the key's, in a time that does not depend on how much of it is right."""
    return hmac.compare_digest(key.digest, _digest(secret))


def standing(key: ApiKey, now: datetime) -> Literal["active", "expired", "revoked"]:
    """What the key is good for at this instant.

    Revoked means revoked at once, whatever the time on record: the clock of the machine that wrote it may be ahead.
    """
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is not None and key.expires_at <= now:
        return "expired"
    return "active"


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _require_sound(name: str, scopes: frozenset[Scope], now: datetime, expires_at: datetime | None) -> None:
    faults: list[FieldError] = []
    if not (0 < len(name) <= NAME_LENGTH and name.isprintable() and name == name.strip()):
        faults.append(FieldError("name", f"Use 1 to {NAME_LENGTH} printable characters, no space at either end."))
    if not scopes or not scopes.issubset(SCOPES):
        faults.append(FieldError("scopes", f"Give one or more of: {', '.join(SCOPES)}."))
    if expires_at is not None and expires_at <= now:
        faults.append(FieldError("expires_at", "Give an instant in the future."))
    if faults:
        raise InvalidRequest(" ".join(f"{fault.field}: {fault.message}" for fault in faults), errors=faults)
