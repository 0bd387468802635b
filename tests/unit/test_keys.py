from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64decode
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.features.errors import InvalidRequest
from service.features.identity import DEFAULT_SCOPES, SCOPES
from service.security import keys

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def test_a_generated_key_has_the_published_form() -> None:
    """The secret is `fa_`, 12 hexadecimal characters, and 32 random bytes in base64url."""
    key, secret = keys.generate("acme", DEFAULT_SCOPES, now=NOW)
    assert re.fullmatch(r"fa_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", secret)
    assert secret.startswith(f"fa_{key.id}_")
    assert len(urlsafe_b64decode(secret[16:] + "=")) == 32


def test_the_record_holds_the_digest_and_never_the_secret() -> None:
    """What is stored is the SHA-256 of the whole key beside what the key is for."""
    key, secret = keys.generate("acme", ["admin"], now=NOW, expires_at=NOW + timedelta(days=1))
    assert key.digest == hashlib.sha256(secret.encode()).digest()
    assert (key.name, key.created_at, key.expires_at, key.revoked_at) == ("acme", NOW, NOW + timedelta(days=1), None)
    assert secret[16:].encode() not in msgspec.msgpack.encode(key)


def test_scopes_are_stored_once_each_in_their_published_order() -> None:
    """Repeated scopes in any order make the same record."""
    key, _ = keys.generate("acme", ["admin", "datasets:read", "admin", "extractions:read"], now=NOW)
    assert key.scopes == ("extractions:read", "datasets:read", "admin")


def test_no_two_keys_are_alike() -> None:
    """Ids and secrets are random."""
    made = [keys.generate("acme", SCOPES, now=NOW) for _ in range(200)]
    assert len({key.id for key, _ in made}) == len({secret[16:] for _, secret in made}) == 200


@pytest.mark.parametrize(
    ("name", "scopes", "expires_at", "field"),
    [
        ("", ["admin"], None, "name"),
        (" acme", ["admin"], None, "name"),
        ("a" * 101, ["admin"], None, "name"),
        ("line\nbreak", ["admin"], None, "name"),
        ("acme", [], None, "scopes"),
        ("acme", ["everything"], None, "scopes"),
        ("acme", ["admin"], NOW, "expires_at"),
    ],
)
def test_an_unusable_key_is_not_made(name: str, scopes: Any, expires_at: datetime | None, field: str) -> None:
    """Each fault is named by its field."""
    with pytest.raises(InvalidRequest) as raised:
        keys.generate(name, scopes, now=NOW, expires_at=expires_at)
    assert [error.field for error in raised.value.errors] == [field]
    assert field in raised.value.message


def test_all_faults_are_named_at_once() -> None:
    """All faults of a key's options are reported together."""
    with pytest.raises(InvalidRequest) as raised:
        keys.generate("", [], now=NOW, expires_at=NOW - timedelta(days=1))
    assert [error.field for error in raised.value.errors] == ["name", "scopes", "expires_at"]


def test_the_id_is_read_from_a_key() -> None:
    """The public id of a well-formed key is found without any look-up."""
    key, secret = keys.generate("acme", SCOPES, now=NOW)
    assert keys.parse_id(secret) == key.id


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fa_",
        "fa_0123456789ab_",
        "fa_0123456789ab_" + "A" * 42,
        "fa_0123456789ab_" + "A" * 44,
        "fa_0123456789AB_" + "A" * 43,
        "fb_0123456789ab_" + "A" * 43,
        "fa_0123456789ab_" + "A" * 43 + "\n",
        "fa_" + "\N{ARABIC-INDIC DIGIT ONE}" * 12 + "_" + "A" * 43,
        "fa_0123456789ab_" + "é" * 43,
    ],
)
def test_other_texts_have_no_id(text: str) -> None:
    """A text that is not exactly in the form of a key is refused without a look-up."""
    assert keys.parse_id(text) is None


@given(st.text())
def test_any_text_can_be_parsed(text: str) -> None:
    """Whatever a client sends, parsing answers, and only with 12 hexadecimal characters."""
    found = keys.parse_id(text)
    assert found is None or re.fullmatch(r"[0-9a-f]{12}", found)


@given(position=st.integers(0, 58), replacement=st.sampled_from("AZaz09-_"))
def test_only_the_very_secret_matches(position: int, replacement: str) -> None:
    """A key with any one character changed is not the key, its public part included."""
    key, secret = keys.generate("acme", SCOPES, now=NOW)
    changed = secret[:position] + replacement + secret[position + 1 :]
    assert keys.matches(key, secret)
    assert keys.matches(key, changed) is (changed == secret)


@pytest.mark.parametrize(
    ("expires_in", "revoked_in", "expected"),
    [
        (None, None, "active"),
        (timedelta(microseconds=1), None, "active"),
        (timedelta(0), None, "expired"),
        (timedelta(days=-1), None, "expired"),
        (None, timedelta(0), "revoked"),
        (None, timedelta(seconds=5), "revoked"),
        (timedelta(days=-1), timedelta(days=-2), "revoked"),
    ],
)
def test_state_of_a_key(expires_in: timedelta | None, revoked_in: timedelta | None, expected: str) -> None:
    """A key works until the instant it expires, and not at all once it is revoked, by whichever clock."""
    key, _ = keys.generate("acme", SCOPES, now=NOW)
    key = msgspec.structs.replace(
        key,
        expires_at=None if expires_in is None else NOW + expires_in,
        revoked_at=None if revoked_in is None else NOW + revoked_in,
    )
    assert keys.state(key, NOW) == expected
