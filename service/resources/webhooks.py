"""Webhooks of one process: the secrets that sign them, the addresses they may go to, and what sends them."""

from __future__ import annotations

from dataclasses import dataclass

from service import __version__
from service.features.delivery import WebhookSender
from service.resources.overrides import NO_OVERRIDES, Overrides
from service.resources.secrets import read_or_create_secret
from service.resources.storage import Storage
from service.resources.telemetry import Telemetry
from service.settings import Settings
from service.webhooks.callbacks import CallbackPolicy
from service.webhooks.sender import HttpSender
from service.webhooks.signing import WebhookSecrets


@dataclass(frozen=True, slots=True)
class Webhooks:
    """What the API needs to accept webhook addresses, and what a worker sends with."""

    policy: CallbackPolicy
    secrets: WebhookSecrets
    sender: WebhookSender | None
    """None without a secret: pending webhooks wait for a process that has one."""


def open_webhooks(storage: Storage, telemetry: Telemetry, overrides: Overrides = NO_OVERRIDES) -> Webhooks:
    """Compose what the settings name; connects to nothing."""
    settings = storage.settings
    secrets = _secrets(settings)
    policy = CallbackPolicy(
        enabled=bool(secrets),
        https_only=settings.environment == "production",
        allow_private=settings.webhook_allow_private,
    )
    derived = WebhookSecrets(secrets)
    if overrides.webhook_sender is not None or not secrets:
        return Webhooks(policy, derived, overrides.webhook_sender)
    sender = HttpSender(
        secrets=derived,
        policy=policy,
        tracer_provider=telemetry.tracing.provider,
        version=__version__,
        seconds=settings.webhook_timeout_seconds,
    )
    return Webhooks(policy, derived, sender)


def _secrets(settings: Settings) -> tuple[str, ...]:
    """Return the configured secrets; in development and tests, generate one under DATA_DIR.

    Pods with data folders of their own would each generate another, so production has to configure it.
    """
    if given := settings.webhook_secrets():
        return given
    if settings.environment in {"development", "test"}:
        return (read_or_create_secret(settings.data_dir / "webhook.secret"),)
    return ()
