"""What the commands share: opening the stores for one piece of work, printing for machines."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

import click
import msgspec

from service.commands.environment import settings_or_refuse
from service.commands.failures import CommandFailed, InputRefused
from service.commands.starting import opening, words
from service.features.errors import FeatureAgentError, InvalidRequest
from service.resources.storage import Storage, open_storage
from service.settings import Settings
from service.store.failures import DependencyUnusable

T = TypeVar("T")


def with_storage(work: Callable[[Storage], Awaitable[T]]) -> T:
    """Open the stores, bring the schema up to date, do the work, close; errors end the command with one line."""
    settings = settings_or_refuse()
    try:
        return asyncio.run(_with_storage(settings, work))
    except (InvalidRequest, ValueError) as error:
        raise InputRefused(words(error)) from None
    except (FeatureAgentError, DependencyUnusable) as error:
        raise CommandFailed(words(error)) from None


async def _with_storage(settings: Settings, work: Callable[[Storage], Awaitable[T]]) -> T:
    with opening():
        storage = open_storage(settings)
    try:
        await storage.database.prepare()
        return await work(storage)
    finally:
        await storage.close()


def print_json(value: object) -> None:
    """One JSON document on stdout; instants as RFC 3339."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def moment(value: datetime | None) -> str:
    """An instant for people: minutes, UTC; a dash for none."""
    return value.strftime("%Y-%m-%d %H:%M") if value else "-"
