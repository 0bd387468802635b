"""Signatures that receivers who know Standard Webhooks verify."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime

import pytest

from service.webhooks.signing import WebhookSecrets, headers_for, sign

OLD, NEW = "an old secret of the deployment, long", "a new secret of the deployment, longer"


def verified(headers: dict[str, str], body: bytes, secret: str, now: float, tolerance: float = 300.0) -> bool:
    """What a receiver does, written from the specification's text and not with the service's code."""
    if abs(now - int(headers["webhook-timestamp"])) > tolerance:
        return False
    kind, _, encoded = secret.partition("_")
    assert kind == "whsec"
    mac = hmac.new(base64.b64decode(encoded), digestmod=hashlib.sha256)
    mac.update(f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body)
    expected = base64.b64encode(mac.digest()).decode()
    versioned = (signature.split(",", 1) for signature in headers["webhook-signature"].split(" "))
    return any(version == "v1" and hmac.compare_digest(given, expected) for version, given in versioned)


def test_the_published_example_is_reproduced() -> None:
    """The secret, message and signature that all reference libraries of Standard Webhooks are tested with."""
    content = b'msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}'

    assert sign(content, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw") == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_receiver_verifies_what_was_sent_to_it() -> None:
    """Id, time and body are all signed: with any of them changed, or after a while, the message is refused."""
    at = datetime(2026, 11, 23, 12, 0, 0, 999_999, tzinfo=UTC)
    (secret,) = WebhookSecrets([NEW]).of("ada")
    headers = headers_for("msg_1", at, b'{"a":1}', [secret])

    assert headers["webhook-timestamp"] == str(int(at.timestamp()))
    assert verified(headers, b'{"a":1}', secret, at.timestamp())
    assert not verified(headers, b'{"a":2}', secret, at.timestamp())
    assert not verified({**headers, "webhook-id": "msg_2"}, b'{"a":1}', secret, at.timestamp())
    assert not verified({**headers, "webhook-timestamp": "1795435201"}, b'{"a":1}', secret, at.timestamp())
    assert not verified(headers, b'{"a":1}', secret, at.timestamp() + 301)


def test_each_principal_has_a_secret_of_its_own() -> None:
    """It has the documented form, is the same in every process, and does not verify another principal's messages."""
    (ada,), (bob,) = (WebhookSecrets([NEW]).of(name) for name in ("ada", "bob"))

    assert ada.startswith("whsec_")
    assert len(base64.b64decode(ada.removeprefix("whsec_"), validate=True)) == 32
    assert WebhookSecrets([NEW]).of("ada") == (ada,)
    at = datetime(2026, 11, 23, tzinfo=UTC)
    assert not verified(headers_for("m", at, b"", [ada]), b"", bob, at.timestamp())
    assert NEW not in ada


def test_while_a_secret_is_replaced_both_verify() -> None:
    """A message carries a signature with each, the newest first; receivers with either accept it."""
    secrets = WebhookSecrets([NEW, OLD]).of("ada")
    at = datetime(2026, 11, 23, tzinfo=UTC)
    headers = headers_for("m", at, b"{}", secrets)

    assert len(headers["webhook-signature"].split(" ")) == 2
    assert [verified(headers, b"{}", secret, at.timestamp()) for secret in secrets] == [True, True]
    assert secrets == (*WebhookSecrets([NEW]).of("ada"), *WebhookSecrets([OLD]).of("ada"))


def test_without_a_secret_there_is_none_to_show() -> None:
    """A deployment without a secret has none for any principal."""
    assert WebhookSecrets([]).of("ada") == ()


@pytest.mark.parametrize("spoilt", ["whsec_!!!", "whsec_abc"])
def test_a_spoilt_secret_signs_nothing(spoilt: str) -> None:
    """What is not base64 is an error, not a weaker key."""
    with pytest.raises(ValueError, match=r"base64|padding|alphabet"):
        sign(b"", spoilt)
