from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.features.errors import NotAuthenticated
from service.features.identity import Principal
from service.security import tokens as module
from service.security.tokens import TokenIssuer

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SECRET = "unit-test-secret-" + "x" * 64
ACME = Principal("acme", frozenset({"datasets:read", "extractions:write"}))


def issuer(algorithm: str = "HS256", **options: Any) -> TokenIssuer:
    """An issuer on the tests' secret."""
    return TokenIssuer(SECRET, algorithm, **options)


def part(value: object) -> str:
    """One part of a token, as JSON in base64url."""
    return urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def payload_of(token: str) -> dict[str, Any]:
    """A token's claims, unverified."""
    return json.loads(urlsafe_b64decode(token.split(".")[1] + "=="))


def resigned(changes: dict[str, Any], *, secret: str = SECRET, algorithm: str = "HS256") -> str:
    """A good token's claims with changes (None removes a claim), signed again."""
    claims = {**payload_of(issuer().issue(ACME, now=NOW, key_id="0123456789ab")), **changes}
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, secret, algorithm)


def refusal(token: str, *, by: TokenIssuer | None = None, now: datetime = NOW) -> str:
    """The reason for which a token is refused."""
    with pytest.raises(NotAuthenticated) as raised:
        (by or issuer()).verify(token, now=now)
    assert raised.value.message in {"The access token is not valid.", "The access token has expired."}
    return raised.value.reason


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_token_gives_its_principal_back(algorithm: str) -> None:
    """What was issued is verified to the same principal and scopes, under each algorithm on offer."""
    token = issuer(algorithm).issue(ACME, now=NOW)
    assert issuer(algorithm).verify(token, now=NOW) == ACME


def test_a_token_carries_the_published_claims() -> None:
    """Issuer, audience, subject, scopes, times, an id of its own, and the key it was made from."""
    claims = payload_of(issuer().issue(ACME, now=NOW, key_id="0123456789ab"))
    identity = claims.pop("jti")
    assert len(identity) >= 20
    assert claims == {
        "iss": "feature-agent",
        "aud": "feature-agent",
        "sub": "acme",
        "client_id": "0123456789ab",
        "scope": "extractions:write datasets:read",
        "iat": int(NOW.timestamp()),
        "exp": int(NOW.timestamp()) + 1800,
    }


def test_no_two_tokens_are_alike() -> None:
    """Tokens issued in one second still have different ids."""
    assert issuer().issue(ACME, now=NOW) != issuer().issue(ACME, now=NOW)


def test_reading_tells_the_key_behind_a_token() -> None:
    """The key's id is there when the token was made from a key, and only then."""
    tokens = issuer(lifetime_seconds=60)
    claims = tokens.read(tokens.issue(ACME, now=NOW, key_id="0123456789ab"), now=NOW)
    assert (claims.key_id, claims.expires_at) == ("0123456789ab", NOW + timedelta(seconds=60))
    assert tokens.read(tokens.issue(ACME, now=NOW), now=NOW).key_id is None


def test_a_token_works_until_the_second_it_expires() -> None:
    """The given time decides, whether the token is cached or not."""
    tokens = issuer(lifetime_seconds=60)
    token = tokens.issue(ACME, now=NOW)
    assert tokens.verify(token, now=NOW + timedelta(seconds=59)) == ACME
    assert refusal(token, by=tokens, now=NOW + timedelta(seconds=60)) == "expired"
    assert refusal(token, by=issuer(), now=NOW + timedelta(seconds=60)) == "expired"


@pytest.mark.parametrize("algorithm", ["HS384", "HS512", "none"])
def test_a_token_of_another_algorithm_is_refused(algorithm: str) -> None:
    """The algorithm is the issuer's; what the token's header names does not count."""
    assert refusal(resigned({}, secret="" if algorithm == "none" else SECRET, algorithm=algorithm)) == "invalid"


def test_a_header_that_disclaims_the_signature_is_refused() -> None:
    """Rewriting the header to `none` and dropping the signature does not help a forger."""
    _, payload, signature = issuer().issue(ACME, now=NOW).split(".")
    for header in ({"alg": "none"}, {"alg": "None"}, {"alg": "RS256"}, {}):
        for end in ("", signature):
            assert refusal(f"{part(header)}.{payload}.{end}") == "invalid"


def test_a_token_of_another_secret_is_refused() -> None:
    """Only the service's own secret signs."""
    assert refusal(resigned({}, secret="y" * 64)) == "invalid"


def test_a_changed_payload_is_refused() -> None:
    """Scopes cannot be added to a signed token."""
    header, _, signature = issuer().issue(ACME, now=NOW).split(".")
    claims = payload_of(issuer().issue(ACME, now=NOW)) | {"scope": "admin"}
    assert refusal(f"{header}.{part(claims)}.{signature}") == "invalid"


@pytest.mark.parametrize(
    "changes",
    [
        *({name: None} for name in ("iss", "aud", "sub", "scope", "iat", "exp", "jti")),
        {"iss": "another-service"},
        {"aud": "another-service"},
        {"sub": ""},
        {"sub": 7},
        {"scope": ["admin"]},
        {"exp": -1},
        {"exp": 10**12},
        {"exp": "soon"},
        {"client_id": 7},
    ],
)
def test_a_well_signed_token_with_other_claims_is_refused(changes: dict[str, Any]) -> None:
    """Tokens of another service that shares the secret are refused."""
    assert refusal(resigned(changes)) == "invalid"


def test_unknown_scopes_of_a_token_grant_nothing() -> None:
    """A scope that this release does not know is left out; the others stay."""
    token = resigned({"scope": "datasets:read everything"})
    assert issuer().verify(token, now=NOW).scopes == {"datasets:read"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "é.é.é",
        "\ud800",
        part("[" * 9) + ".e30.AA",
        urlsafe_b64encode(b"[" * 2700).decode().rstrip("=") + ".e30.AA",
        "A" * 5000,
    ],
)
def test_garbage_is_refused(text: str) -> None:
    """Malformed, deeply nested, oversized and undecodable texts are invalid tokens, not failures of the service."""
    assert refusal(text) == "invalid"


@given(st.text(alphabet=st.characters(codec=None)))
def test_any_text_is_answered(text: str) -> None:
    """Whatever a client sends as a token, the answer is a refusal."""
    assert refusal(text) == "invalid"


def test_a_verified_token_is_not_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verifying a cached token does no cryptography, and a refused one is never cached."""
    tokens, decoded = issuer(), []
    decode = module.jwt.decode

    def counted(token: str, *arguments: Any, **options: Any) -> Any:
        decoded.append(token)
        return decode(token, *arguments, **options)

    monkeypatch.setattr(module.jwt, "decode", counted)
    token, forged = tokens.issue(ACME, now=NOW), resigned({}, secret="y" * 64)
    for _ in range(3):
        tokens.verify(token, now=NOW)
        refusal(forged, by=tokens)
    assert decoded.count(token) == 1
    assert decoded.count(forged) == 3


def test_an_oversized_token_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text longer than any issued token is refused before it is decoded."""
    monkeypatch.delattr(module.jwt, "decode")
    assert refusal("A" * 4097) == "invalid"


@pytest.mark.parametrize(("algorithm", "minimum"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_a_short_secret_is_refused(algorithm: str, minimum: int) -> None:
    """A secret has at least as many bytes as the algorithm's hash; characters do not count."""
    with pytest.raises(ValueError, match=f"{algorithm} needs at least {minimum} bytes") as raised:
        TokenIssuer("s" * (minimum - 1), algorithm)
    assert "sss" not in str(raised.value)
    token = TokenIssuer("é" * (minimum // 2), algorithm).issue(ACME, now=NOW)
    assert TokenIssuer("é" * (minimum // 2), algorithm).verify(token, now=NOW) == ACME


@pytest.mark.parametrize("algorithm", ["none", "RS256", "hs256", ""])
def test_an_algorithm_that_is_not_on_offer_is_refused(algorithm: str) -> None:
    """Only HMAC with SHA-2 signs tokens."""
    with pytest.raises(ValueError, match="HS256, HS384, HS512"):
        issuer(algorithm)
