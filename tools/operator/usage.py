"""`feature-agent usage`: which principals keep the most."""

from __future__ import annotations

from collections.abc import Sequence

import click
from rich.console import Console
from rich.table import Table

from service.commands.running import print_json, with_storage
from service.features.stores import OwnerUsage
from service.resources.storage import Storage


@click.command()
@click.option("--principal", help="Only that one.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def usage(principal: str | None, limit: int, *, as_json: bool) -> None:
    """List the principals that keep the most bytes, with their datasets."""

    async def work(storage: Storage) -> Sequence[OwnerUsage]:
        async with storage.store.begin() as unit:
            return await unit.usage.largest_owners(limit=limit, owner=principal)

    found = with_storage(work)
    if as_json:
        print_json(
            [
                {"principal": one.owner, "datasets": one.use.datasets, "stored_bytes": one.use.stored_bytes}
                for one in found
            ]
        )
        return
    table = Table("principal", "datasets", "stored bytes")
    for one in found:
        table.add_row(one.owner, f"{one.use.datasets:,}", f"{one.use.stored_bytes:,}")
    Console().print(table, markup=False)
