"""What a deployment says of webhooks, and what its processes make of it."""

from __future__ import annotations

import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.trace import NoOpTracerProvider

from service.resources.webhooks import Webhooks, open_webhooks
from service.settings import SettingsError, load_settings
from service.webhooks.callbacks import CallbackRefused

NEW, OLD = "n" * 32, "o" * 40
PRODUCTION = {
    "environment": "production", "jwt_secret": "j" * 32, "database_url": "postgresql://x@y/z",
    "allowed_hosts": "api.example.org",
}  # fmt: skip


def opened(folder: Path, **values: Any) -> Webhooks:
    """The webhooks of a process with those settings."""
    settings = load_settings(_env_file=None, **{"environment": "test", "data_dir": folder, **values})
    storage: Any = SimpleNamespace(settings=settings)
    telemetry: Any = SimpleNamespace(tracing=SimpleNamespace(provider=NoOpTracerProvider()))
    return open_webhooks(storage, telemetry)


def test_development_makes_a_secret_and_keeps_it(tmp_path: Path) -> None:
    """All processes of the folder agree on it, and only their account reads it."""
    one, two = opened(tmp_path), opened(tmp_path)

    assert one.secrets.of("ada") == two.secrets.of("ada")
    assert stat.S_IMODE((tmp_path / "webhook.secret").stat().st_mode) == 0o600
    assert one.sender is not None


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_elsewhere_nothing_is_sent_without_one(tmp_path: Path, environment: str) -> None:
    """Pods would each make their own: callbacks are refused, and workers leave what waits to others."""
    webhooks = opened(tmp_path, **{**PRODUCTION, "environment": environment})

    assert (webhooks.secrets.of("ada"), webhooks.sender) == ((), None)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CallbackRefused, match="WEBHOOK_SECRET is not set"):
        webhooks.policy.target("https://example.org/")


def test_production_with_a_secret_sends_to_https_addresses_of_the_internet(tmp_path: Path) -> None:
    """The new secret comes first while the old one is replaced."""
    webhooks = opened(tmp_path, **PRODUCTION, webhook_secret=f" {NEW}, {OLD} ")

    assert webhooks.secrets.of("ada") == (
        *opened(tmp_path, webhook_secret=NEW).secrets.of("ada"),
        *opened(tmp_path, webhook_secret=OLD).secrets.of("ada"),
    )
    assert webhooks.sender is not None
    assert webhooks.policy.target("https://example.org/").host == "example.org"
    for refused in ("http://example.org/", "https://10.0.0.1/"):
        with pytest.raises(CallbackRefused):
            webhooks.policy.target(refused)


def test_a_short_secret_is_refused() -> None:
    """Any of them; it is not repeated."""
    with pytest.raises(SettingsError, match="WEBHOOK_SECRET has a secret of fewer than 32 bytes") as refused:
        load_settings(_env_file=None, webhook_secret=f"{NEW},short")
    assert "short" not in str(refused.value)
