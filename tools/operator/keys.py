"""`feature-agent keys`: create, list and revoke API keys."""

from __future__ import annotations

from datetime import timedelta

import click
from rich.console import Console
from rich.table import Table

from service.commands.failures import InputRefused
from service.commands.running import moment, print_json, with_storage
from service.features.identity import DEFAULT_SCOPES, SCOPES, ApiKey, Scope
from service.resources.storage import Storage


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def keys() -> None:
    """Create, list and revoke API keys. All keys of one name act for one principal and see the same data."""


@keys.command()
@click.option("--name", required=True, metavar="NAME", help="The principal that the key acts for.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(SCOPES),
    help="A scope; repeat for more. Default: all but admin.",
)
@click.option("--expires-in-days", type=click.IntRange(1, 3650), help="Default: never expires.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def create(name: str, scopes: tuple[Scope, ...], expires_in_days: int | None, *, as_json: bool) -> None:
    """Create a key. Its secret is shown once."""
    if not name.strip() or len(name) > 100:  # noqa: PLR2004 - the column's width
        raise InputRefused("--name takes 1 to 100 characters")

    async def work(storage: Storage) -> tuple[ApiKey, str]:
        expires_at = storage.clock.now() + timedelta(days=expires_in_days) if expires_in_days else None
        return await storage.create_key(name.strip(), scopes or DEFAULT_SCOPES, expires_at)

    key, secret = with_storage(work)
    if as_json:
        print_json({**_public(key), "key": secret})
    else:
        click.echo(f"{secret}\n", nl=False)
        click.echo(f"Key {key.id} for {key.name!r}, shown this once. Scopes: {', '.join(key.scopes)}.", err=True)


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def list_keys(*, as_json: bool) -> None:
    """List the keys, never their secrets."""

    async def work(storage: Storage) -> tuple[ApiKey, ...]:
        async with storage.store.begin() as unit:
            return await unit.keys.list()

    found = with_storage(work)
    if as_json:
        print_json([{**_public(key), "created_at": key.created_at, "revoked_at": key.revoked_at} for key in found])
        return
    table = Table("id", "name", "scopes", "created (UTC)", "expires", "revoked")
    for key in found:
        table.add_row(
            key.id,
            key.name,
            " ".join(key.scopes),
            moment(key.created_at),
            moment(key.expires_at),
            moment(key.revoked_at),
        )
    Console().print(table)


@keys.command()
@click.argument("key_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def revoke(key_id: str, *, as_json: bool) -> None:
    """Revoke a key; what was signed in with it ends within seconds."""

    async def work(storage: Storage) -> bool:
        async with storage.store.begin() as unit:
            return await unit.keys.revoke(key_id, storage.clock.now())

    if not with_storage(work):
        raise InputRefused(f"there is no key {key_id!r}; `feature-agent keys list` shows the ids")
    if as_json:
        print_json({"id": key_id, "revoked": True})
    else:
        click.echo(f"Key {key_id} is revoked.")


def _public(key: ApiKey) -> dict[str, object]:
    return {"id": key.id, "name": key.name, "scopes": key.scopes, "expires_at": key.expires_at}
