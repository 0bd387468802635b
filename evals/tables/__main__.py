"""`python -m evals.tables`: make each table, read it through the service's ingest, write its profile as JSON."""

from __future__ import annotations

import asyncio
import csv
import io
import random
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import click
import msgspec

from evals.tables import commerce, odd, operations, people
from evals.tables.cells import Table
from service.engines.duckdb.engine import DuckDBEngine
from service.engines.limits import Limits
from service.features.model import Profile
from service.store.artifacts import open_artifacts

PROFILES = Path(__file__).parents[1] / "profiles"
TABLES: Mapping[str, Callable[[random.Random], Table]] = {
    made.__name__: made
    for made in (
        commerce.clickstream, commerce.orders, commerce.inventory, commerce.campaigns, commerce.reviews,
        operations.sensors, operations.weblogs, operations.rides, operations.factory,
        people.bank, people.subscriptions, people.hospital, people.employees, people.credit, odd.legacy,
    )
}  # fmt: skip
LIMITS = Limits(memory_bytes=2**30, threads=2, scratch_bytes=2**30, seconds=120.0)


def as_csv(name: str) -> bytes:
    """The table of that name as a file: the same bytes every time."""
    table = TABLES[name](random.Random(name))
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([header for header, _ in table])
    writer.writerows(zip(*(cells for _, cells in table), strict=True))
    return text.getvalue().encode()


async def profile_of(name: str, folder: Path) -> Profile:
    """What the service would know of the table after an upload; `folder` is for scratch files."""
    artifacts = open_artifacts(folder.as_uri())
    engine = DuckDBEngine(artifacts, LIMITS, folder / "scratch")

    async def chunks() -> AsyncIterator[bytes]:
        yield as_csv(name)

    await artifacts.put_stream(f"uploads/{name}", chunks(), limit=2**26)
    return await engine.ingest(f"uploads/{name}", "text/csv", f"datasets/{name}.parquet")


async def _write_all() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in TABLES:
            profile = await profile_of(name, Path(folder))
            text = msgspec.json.format(msgspec.json.encode(profile), indent=1)
            (PROFILES / f"{name}.json").write_bytes(text + b"\n")
            click.echo(f"{name}: {profile.row_count} rows, {len(profile.columns)} columns")


if __name__ == "__main__":
    asyncio.run(_write_all())
