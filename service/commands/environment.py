"""The settings of a command."""

from __future__ import annotations

from service.commands.failures import InputRefused
from service.settings import Settings, SettingsError, load_settings


def settings_or_refuse(**overrides: object) -> Settings:
    """Load the settings. Raises InputRefused when they cannot be used."""
    try:
        return load_settings(**overrides)
    except SettingsError as error:
        raise InputRefused(str(error)) from None
