"""`feature-agent datasets`: add, list and show datasets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from service.commands.failures import InputRefused
from service.commands.running import moment, print_json, with_storage
from service.features.errors import DatasetExists, DatasetNotFound
from service.features.model import Dataset, MediaType
from service.resources.computing import command_engine, open_upload
from service.resources.storage import DEVELOPMENT_PRINCIPAL, Storage, new_id

MEDIA_TYPES: dict[str, MediaType] = {
    ".csv": "text/csv",
    ".tsv": "text/csv",
    ".txt": "text/csv",
    ".parquet": "application/vnd.apache.parquet",
    ".ndjson": "application/x-ndjson",
    ".jsonl": "application/x-ndjson",
}
"""File endings and what they hold."""

CHUNK_BYTES = 2**20
LISTED = 100

owner_option = click.option(
    "--owner", default=DEVELOPMENT_PRINCIPAL, show_default=True, help="The principal that the dataset belongs to."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def datasets() -> None:
    """Add, list and show datasets."""


@datasets.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path))
@click.option("--id", "dataset_id", help="Default: the file's name without its ending.")
@click.option("--replace", is_flag=True, help="Make it the next version of the dataset that has the id.")
@owner_option
@json_option
def add(file: Path, dataset_id: str | None, owner: str, *, replace: bool, as_json: bool) -> None:
    """Read FILE (CSV, Parquet or NDJSON), profile it and keep it."""
    media_type = MEDIA_TYPES.get(file.suffix.lower())
    if media_type is None:
        raise InputRefused(f"{file.name}: the ending must be one of {', '.join(MEDIA_TYPES)}")
    chosen, size = dataset_id or _id_from(file), file.stat().st_size

    async def work(storage: Storage) -> Dataset:
        with Progress(console=Console(stderr=True), transient=True, disable=as_json) as progress:
            async with command_engine(storage) as engine:
                task = progress.add_task(f"Reading {file.name}", total=size)
                chunks = _chunks(file, progress, task)
                try:
                    return await open_upload(storage, engine)(owner, chosen, media_type, chunks, replace=replace)
                except DatasetExists:
                    known = f"{owner} already has a dataset {chosen!r}; --replace makes the file its next version"
                    raise DatasetExists(known) from None

    dataset = with_storage(work)
    if as_json:
        print_json(dataset)
    else:
        _print_profile(dataset)


@datasets.command("list")
@owner_option
@json_option
def list_datasets(owner: str, *, as_json: bool) -> None:
    """List the newest datasets."""

    async def work(storage: Storage) -> tuple[Dataset, ...]:
        async with storage.store.begin() as unit:
            return (await unit.datasets.list(owner, limit=LISTED)).items

    found = with_storage(work)
    if as_json:
        print_json([_summary(dataset) for dataset in found])
        return
    table = Table("id", "version", "rows", "columns", "bytes", "created (UTC)")
    for dataset in found:
        rows, columns = dataset.profile.row_count, len(dataset.profile.columns)
        size, made = f"{dataset.size_bytes:,}", moment(dataset.created_at)
        table.add_row(dataset.id, str(dataset.version), f"{rows:,}", str(columns), size, made)
    Console().print(table)


@datasets.command()
@click.argument("dataset_id", metavar="ID")
@owner_option
@json_option
def show(dataset_id: str, owner: str, *, as_json: bool) -> None:
    """Show a dataset's profile."""

    async def work(storage: Storage) -> Dataset:
        async with storage.store.begin() as unit:
            try:
                return await unit.datasets.get(owner, dataset_id)
            except DatasetNotFound:
                known = f"`feature-agent datasets list --owner {owner}` shows the ids"
                raise InputRefused(f"{owner} has no dataset {dataset_id!r}; {known}") from None

    dataset = with_storage(work)
    if as_json:
        print_json(dataset)
    else:
        _print_profile(dataset)


def _id_from(file: Path) -> str:
    safe = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "-" for letter in file.stem
    )
    return safe.strip("._-")[:100] or new_id()


async def _chunks(file: Path, progress: Progress, task: TaskID) -> AsyncIterator[bytes]:
    with file.open("rb") as source:
        while chunk := source.read(CHUNK_BYTES):
            progress.advance(task, len(chunk))
            yield chunk


def _summary(dataset: Dataset) -> dict[str, object]:
    return {
        "dataset_id": dataset.id,
        "version": dataset.version,
        "row_count": dataset.profile.row_count,
        "column_count": len(dataset.profile.columns),
        "size_bytes": dataset.size_bytes,
        "created_at": dataset.created_at,
    }


def _print_profile(dataset: Dataset) -> None:
    profile = dataset.profile
    console = Console()
    table = Table(
        "column",
        "type",
        "missing",
        "distinct",
        "from",
        "to",
        "often",
        title=f"{dataset.id}, version {dataset.version}: {profile.row_count:,} rows",
    )
    for column in profile.columns:
        often = ", ".join(value.value for value in column.top_values[:3])
        low, high = ("" if bound is None else str(bound) for bound in (column.minimum, column.maximum))
        kind = f"{column.logical_type} (personal)" if column.personal else column.logical_type
        table.add_row(column.name, kind, f"{column.null_ratio:.1%}", f"{column.distinct_count:,}", low, high, often)
    console.print(table)
    for note in profile.notes:
        console.print(f"· {note}", markup=False, highlight=False)
