"""Signatures of webhooks, as https://www.standardwebhooks.com describes them, and the secrets that make them."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime

PREFIX = "whsec_"
_CONTEXT = b"feature-agent webhook secret, 1\n"


class WebhookSecrets:
    """Each principal's secrets, derived from the deployment's: nobody can sign for another, and none is stored."""

    def __init__(self, deployment: Sequence[str]) -> None:
        """The deployment's secrets, newest first; while there are several, messages are signed with each."""
        self._deployment = tuple(secret.encode() for secret in deployment)

    def of(self, principal: str) -> tuple[str, ...]:
        """The principal's secrets, newest first; none where the deployment has none."""
        return tuple(
            PREFIX + base64.b64encode(hmac.digest(secret, _CONTEXT + principal.encode(), hashlib.sha256)).decode()
            for secret in self._deployment
        )


def headers_for(message_id: str, now: datetime, body: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """The three header fields; the timestamp is that of the try, in whole seconds."""
    timestamp = str(int(now.timestamp()))
    content = b".".join((message_id.encode(), timestamp.encode(), body))
    signatures = (sign(content, secret) for secret in secrets)
    return {"webhook-id": message_id, "webhook-timestamp": timestamp, "webhook-signature": " ".join(signatures)}


def sign(content: bytes, secret: str) -> str:
    """The versioned signature of `id.timestamp.body` with a secret as it is shown (`whsec_` and base64)."""
    key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    return "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
