"""`feature-agent doctor`: check every dependency and setting, and say how to fix what fails."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Literal
from urllib.parse import urlsplit

import click
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from embedded_postgres.server import EmbeddedUnavailable
from service.agents.configuration_error import ModelConfigurationError
from service.commands.environment import settings_or_refuse
from service.commands.failures import PORT_REMEDY
from service.commands.running import print_json
from service.commands.starting import FOLDER_REMEDY, describe
from service.engines.selection import engine_options
from service.features.errors import FeatureAgentError
from service.resources.computing import command_engine
from service.resources.planning import open_models
from service.resources.storage import Storage, artifacts_address, open_storage
from service.settings import Settings
from service.store.failures import DependencyUnusable
from service.store.reach import DATABASE_REMEDY, reach_artifacts, reach_redis

CONNECT_SECONDS = 2.0
STYLES = {"ok": "green", "warning": "yellow", "failed": "red"}


class Check(Struct, frozen=True):
    """One thing looked at, and what to do when it is not well."""

    name: str
    status: Literal["ok", "warning", "failed"]
    detail: str
    fix: str = ""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def doctor(*, as_json: bool) -> int:
    """Check every dependency and setting, and say how to fix what fails. Exits 1 when something failed."""
    settings = settings_or_refuse()
    checks = asyncio.run(_examine(settings))
    if as_json:
        print_json(checks)
    else:
        _print(checks)
    return int(any(check.status == "failed" for check in checks))


async def _examine(settings: Settings) -> list[Check]:
    checks = [_python(), _data_dir(settings), _model(settings)]
    async with _opened(settings, checks) as storage:
        if storage is not None:
            checks += [
                await _database(storage),
                await _artifacts(storage),
                await _engine(storage),
                await _redis(storage),
            ]
    checks += [_port("PORT", settings.host, settings.port)]
    if settings.prometheus_enabled:
        checks.append(_port("PROMETHEUS_PORT", settings.host, settings.prometheus_port))
    checks.append(_collector(settings))
    return checks


@asynccontextmanager
async def _opened(settings: Settings, checks: list[Check]) -> AsyncGenerator[Storage | None]:
    try:
        storage = open_storage(settings)
    except (EmbeddedUnavailable, ValueError, OSError) as error:
        remedy = "Correct DATABASE_URL, REDIS_URL, ARTIFACTS_URL or DATA_DIR."
        checks.append(Check("stores", "failed", describe(error), remedy))
        yield None
        return
    try:
        yield storage
    finally:
        await storage.close()


def _python() -> Check:
    return Check("Python", "ok", ".".join(str(part) for part in sys.version_info[:3]))


def _data_dir(settings: Settings) -> Check:
    folder = settings.data_dir
    while not folder.exists():
        folder = folder.parent
    if folder.is_dir() and os.access(folder, os.W_OK):
        return Check("DATA_DIR", "ok", str(settings.data_dir))
    return Check("DATA_DIR", "failed", f"{folder} is no folder that can be written", FOLDER_REMEDY)


def _model(settings: Settings) -> Check:
    try:
        open_models(settings)
    except ModelConfigurationError as error:
        return Check("model", "failed", str(error), "Or set PRIMARY_MODEL=builtin:planner, which needs nothing.")
    return Check("model", "ok", ", then ".join(settings.model_names()))


async def _database(storage: Storage) -> Check:
    try:
        await storage.database.reach()
        revision, standing = await storage.database.revision(), await storage.database.schema_state()
    except DependencyUnusable as error:
        return Check("database", "failed", error.what, error.remedy)
    except FeatureAgentError as error:
        return Check("database", "failed", error.message, DATABASE_REMEDY)
    kind = "embedded PostgreSQL" if storage.settings.database_url is None else "PostgreSQL at DATABASE_URL"
    if revision is None:
        return Check("database", "warning", f"{kind}, empty", "`feature-agent migrate`; `serve` does it as well.")
    detail = f"{kind}, revision {revision}"
    if standing == "too new":
        fix = "Run the release that migrated it, or restore a backup from before."
        return Check("database", "failed", f"{detail}, which this release does not know", fix)
    if standing == "newer":
        fix = "Nothing now; update this release when the newer one stays."
        return Check("database", "warning", f"{detail} of a newer release, which works for this one", fix)
    return Check("database", "ok", detail)


async def _artifacts(storage: Storage) -> Check:
    try:
        await reach_artifacts(storage.artifacts, artifacts_address(storage.settings))
    except DependencyUnusable as error:
        return Check("artifacts", "failed", error.what, error.remedy)
    return Check("artifacts", "ok", urlsplit(storage.settings.artifacts_url or "file:").scheme or "file")


async def _engine(storage: Storage) -> Check:
    try:
        async with command_engine(storage) as engine:
            await engine.ping()
    except (FeatureAgentError, OSError) as error:
        return Check("engine", "failed", str(error), "Correct ENGINE_URL or DATA_DIR, or free memory and disk.")
    options = engine_options(storage.settings.engine_url)
    return Check("engine", "ok", ", ".join(f"{name}={value}" for name, value in options.items()))


async def _redis(storage: Storage) -> Check:
    if storage.redis_pool is None:
        return Check("Redis", "ok", "not set: rate limits are kept in each process")
    try:
        await reach_redis(storage.redis_pool)
    except DependencyUnusable as error:
        return Check("Redis", "failed", error.what, error.remedy)
    return Check("Redis", "ok", "answers")


def _port(setting: str, host: str, port: int) -> Check:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return Check(setting, "failed", f"{host}:{port}: {error.strerror}", PORT_REMEDY.format(setting))
    return Check(setting, "ok", f"{host}:{port} is free")


def _collector(settings: Settings) -> Check:
    if not settings.jaeger_enabled:
        return Check("traces", "ok", "not exported (JAEGER_ENABLED=false)")
    address = urlsplit(settings.jaeger_endpoint)
    try:
        socket.create_connection((address.hostname or "", address.port or 4318), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        fix = "Start the collector, correct JAEGER_ENDPOINT, or set JAEGER_ENABLED=false. The service runs without it."
        return Check("traces", "warning", f"{settings.jaeger_endpoint}: {error.strerror or error}", fix)
    return Check("traces", "ok", f"exported to {settings.jaeger_endpoint}")


def _print(checks: list[Check]) -> None:
    table = Table("check", "status", "detail", "how to fix it")
    for check in checks:
        style = STYLES[check.status]
        table.add_row(check.name, f"[{style}]{check.status}[/{style}]", check.detail, check.fix)
    Console().print(table)
