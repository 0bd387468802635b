"""Helpers of the commands: run work on the open stores, print JSON and times."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

import click
import msgspec

from service.commands.environment import settings_or_refuse
from service.commands.failures import CommandFailed, InputRefused
from service.commands.starting import describe, opening
from service.features.errors import FeatureAgentError, InvalidRequest
from service.resources.storage import Storage, open_storage
from service.settings import Settings
from service.store.failures import DependencyUnusable

T = TypeVar("T")


def with_storage(work: Callable[[Storage], Awaitable[T]]) -> T:
    """Open the stores, migrate the database, run `work`, and close. Raises InputRefused and CommandFailed."""
    settings = settings_or_refuse()
    try:
        return asyncio.run(_with_storage(settings, work))
    except (InvalidRequest, ValueError) as error:
        raise InputRefused(describe(error)) from None
    except (FeatureAgentError, DependencyUnusable) as error:
        raise CommandFailed(describe(error)) from None


async def _with_storage(settings: Settings, work: Callable[[Storage], Awaitable[T]]) -> T:
    with opening():
        storage = open_storage(settings)
    try:
        await storage.database.prepare()
        return await work(storage)
    finally:
        await storage.close()


def print_json(value: object) -> None:
    """Print one JSON document to stdout, with times as RFC 3339."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def moment(value: datetime | None) -> str:
    """Format a time for people, in UTC to the minute; a dash for None."""
    return value.strftime("%Y-%m-%d %H:%M") if value else "-"
