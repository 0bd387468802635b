"""Webhooks of one process: whose they are signed as, where they may go, and what sends them."""

from __future__ import annotations

from dataclasses import dataclass

from service import __version__
from service.resources.secrets import secret_kept_in
from service.resources.storage import Storage
from service.resources.telemetry import Telemetry
from service.settings import Settings
from service.webhooks.callbacks import CallbackPolicy
from service.webhooks.sender import HttpSender
from service.webhooks.signing import WebhookSecrets


@dataclass(frozen=True, slots=True)
class Webhooks:
    """What the API tells of webhooks, and what a worker sends them with."""

    policy: CallbackPolicy
    secrets: WebhookSecrets
    sender: HttpSender | None
    """None without a secret: whoever has one sends what waits."""


def open_webhooks(storage: Storage, telemetry: Telemetry) -> Webhooks:
    """As the settings say; connects to nothing."""
    settings = storage.settings
    secrets = _secrets(settings)
    policy = CallbackPolicy(
        enabled=bool(secrets),
        https_only=settings.environment == "production",
        allow_private=settings.webhook_allow_private,
    )
    derived = WebhookSecrets(secrets)
    if not secrets:
        return Webhooks(policy, derived, None)
    sender = HttpSender(
        secrets=derived,
        policy=policy,
        tracer_provider=telemetry.tracing.provider,
        version=__version__,
        seconds=settings.webhook_timeout_seconds,
    )
    return Webhooks(policy, derived, sender)


def _secrets(settings: Settings) -> tuple[str, ...]:
    """The deployment's; in development one is made, which pods with folders of their own would not share."""
    if given := settings.webhook_secrets():
        return given
    if settings.environment in {"development", "test"}:
        return (secret_kept_in(settings.data_dir / "webhook.secret"),)
    return ()
