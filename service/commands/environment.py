"""The settings of a command."""

from __future__ import annotations

from service.commands.failures import InputRefused
from service.settings import Settings, SettingsError, load_settings


def settings_or_refuse(**overrides: object) -> Settings:
    """The settings; bad ones end the command with exit status 2."""
    try:
        return load_settings(**overrides)
    except SettingsError as error:
        raise InputRefused(str(error)) from None
