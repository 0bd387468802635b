"""Sign webhooks as https://www.standardwebhooks.com describes, and derive the secrets."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime

PREFIX = "whsec_"
_CONTEXT = b"feature-agent webhook secret, 1\n"


class WebhookSecrets:
    """Derive each principal's secrets from the deployment's, so that none is stored and none signs for another."""

    def __init__(self, deployment: Sequence[str]) -> None:
        """Take the deployment's secrets, newest first; messages are signed with each of them."""
        self._deployment = tuple(secret.encode() for secret in deployment)

    def of(self, principal: str) -> tuple[str, ...]:
        """Return the principal's secrets, newest first; none if the deployment has none."""
        return tuple(
            PREFIX + base64.b64encode(hmac.digest(secret, _CONTEXT + principal.encode(), hashlib.sha256)).decode()
            for secret in self._deployment
        )


def headers_for(message_id: str, now: datetime, body: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """Return the three header fields; the timestamp is that of the attempt, in whole seconds."""
    timestamp = str(int(now.timestamp()))
    content = b".".join((message_id.encode(), timestamp.encode(), body))
    signatures = (sign(content, secret) for secret in secrets)
    return {"webhook-id": message_id, "webhook-timestamp": timestamp, "webhook-signature": " ".join(signatures)}


def sign(content: bytes, secret: str) -> str:
    """Sign `id.timestamp.body` with a secret (`whsec_` and base64); returns the versioned signature."""
    key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    return "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
