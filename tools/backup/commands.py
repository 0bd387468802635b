"""The commands `feature-agent backup` and `feature-agent restore`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import click

from service import __version__
from service.commands.environment import settings_or_refuse
from service.commands.failures import CommandFailed, InputRefused
from service.commands.running import print_json
from service.commands.starting import describe, opening
from service.features.errors import FeatureAgentError
from service.features.ports import Artifacts
from service.resources.storage import Storage, open_storage
from service.settings import Settings
from service.store.artifacts import open_artifacts
from service.store.backup_record import BackupRecord, record_backup
from service.store.failures import DependencyUnusable
from tools.backup.create import create_backup
from tools.backup.manifest import BackupFailed, BackupRefused, Manifest
from tools.backup.restore import restore_backup

T = TypeVar("T")


@click.command()
@click.argument("url", metavar="URL")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def backup(url: str, *, as_json: bool) -> None:
    """Back the database and all its files up to URL, while the service runs.

    URL is a place that has no backup yet: file:///folder, a path, s3://bucket/prefix, gs://… or az://…. It gets the
    rows as they are at one instant, every file that they refer to, and a manifest with the SHA-256 of each.
    """
    target = open_backup(url)

    async def work(storage: Storage) -> Manifest:
        now = storage.clock.now()
        manifest = await create_backup(storage.database, storage.artifacts, target, release=__version__, now=now)
        if not manifest.missing:
            await record_backup(storage.artifacts, BackupRecord(manifest.created_at, manifest.release))
        return manifest

    manifest = run_unmigrated(work)
    report("Backed up", manifest, as_json=as_json)
    if manifest.missing:
        raise CommandFailed(
            f"{len(manifest.missing)} files that rows refer to are lost, and so not in the backup; "
            f"its manifest names them, the first is {manifest.missing[0]}"
        )


@click.command()
@click.argument("url", metavar="URL")
@click.option("--yes", is_flag=True, help="Replace all rows of a database that has some.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def restore(url: str, *, yes: bool, as_json: bool) -> None:
    """Bring the backup at URL back into the database and the artifact store that the settings name.

    Every file is checked against the manifest; the rows come last, all or none. Stop the service before.
    """
    source = open_backup(url)

    async def work(storage: Storage) -> Manifest:
        return await restore_backup(storage.database, storage.artifacts, source, replace=yes)

    report("Restored", run_unmigrated(work), as_json=as_json)


def open_backup(url: str) -> Artifacts:
    """Open the place of a backup. Raises InputRefused for an address that cannot be used."""
    if url.startswith("memory:"):
        raise InputRefused("a backup needs a place that outlives the command: a folder, s3://, gs:// or az://")
    try:
        return open_artifacts(url)
    except ValueError as error:
        raise InputRefused(str(error)) from None
    except OSError as error:
        raise InputRefused(f"the folder cannot be made: {error.strerror}") from None


def run_unmigrated(work: Callable[[Storage], Awaitable[T]]) -> T:
    """Open the stores without migrating the schema, do the work, and close them.

    Raises InputRefused and CommandFailed, which end the command with one line.
    """
    settings = settings_or_refuse()
    try:
        return asyncio.run(_run_unmigrated(settings, work))
    except (BackupRefused, ValueError) as error:
        raise InputRefused(str(error)) from None
    except (BackupFailed, FeatureAgentError, DependencyUnusable) as error:
        raise CommandFailed(describe(error)) from None


async def _run_unmigrated(settings: Settings, work: Callable[[Storage], Awaitable[T]]) -> T:
    with opening():
        storage = open_storage(settings)
    try:
        return await work(storage)
    finally:
        await storage.close()


def report(done: str, manifest: Manifest, *, as_json: bool) -> None:
    """Print what a backup holds: its rows, files and bytes."""
    facts = {
        "release": manifest.release,
        "revision": manifest.revision,
        "created_at": manifest.created_at,
        "rows": manifest.rows,
        "artifacts": len(manifest.artifacts),
        "bytes": manifest.dump.size_bytes + sum(entry.size_bytes for entry in manifest.artifacts),
    }
    if as_json:
        print_json(facts)
        return
    rows = ", ".join(f"{count:,} {table.replace('_', ' ')}" for table, count in manifest.rows.items())
    click.echo(f"{done} {rows}, and {facts['artifacts']:,} files: {facts['bytes']:,} bytes.")
