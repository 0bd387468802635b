"""`feature-agent jobs`: the operator's view of extractions, over all principals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast, get_args

import click
from rich.console import Console
from rich.table import Table

from service.commands.failures import InputRefused
from service.commands.running import moment, print_json, with_storage
from service.extractions.cancel import cancel as cancel_extraction
from service.features.delivery import Delivery, DeliveryState
from service.features.model import Extraction, Status
from service.features.stores import UnitOfWork
from service.resources.jobs import open_queue
from service.resources.storage import Storage

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def jobs() -> None:
    """List, show, retry and cancel extractions of all principals."""


@jobs.command("list")
@click.option("--status", type=click.Choice(get_args(Status)), help="Only those.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@json_option
def list_jobs(status: str | None, limit: int, *, as_json: bool) -> None:
    """List the newest extractions."""

    async def work(storage: Storage) -> tuple[Extraction, ...]:
        async with storage.store.begin() as unit:
            return await unit.extractions.newest(limit, cast("Status | None", status))

    found = with_storage(work)
    if as_json:
        print_json([_summary(extraction) for extraction in found])
        return
    table = Table("id", "owner", "dataset", "status", "progress", "attempts", "created (UTC)", "ended (UTC)", "failure")
    for extraction in found:
        table.add_row(*_cells(extraction))
    Console().print(table)


@jobs.command()
@click.argument("extraction_id", metavar="ID")
@json_option
def show(extraction_id: str, *, as_json: bool) -> None:
    """Show what became of an extraction, and of its webhooks."""

    async def work(storage: Storage) -> tuple[Extraction, tuple[Delivery, ...]]:
        async with storage.store.begin() as unit:
            extraction = await _found(unit, extraction_id)
            return extraction, await unit.deliveries.of_extraction(extraction_id)

    extraction, deliveries = with_storage(work)
    _tell(extraction, as_json=as_json, webhooks={delivery.id: delivery.state for delivery in deliveries})


@jobs.command()
@click.argument("extraction_id", metavar="ID")
@json_option
def retry(extraction_id: str, *, as_json: bool) -> None:
    """Have a failed extraction run again, as if it were new."""

    async def work(storage: Storage) -> Extraction:
        async with storage.store.begin() as unit:
            await _found(unit, extraction_id)
            revived = await unit.extractions.revive(extraction_id)
            await open_queue().enqueue(unit, revived)
        return revived

    _tell(with_storage(work), as_json=as_json)


@jobs.command()
@click.argument("extraction_id", metavar="ID")
@json_option
def cancel(extraction_id: str, *, as_json: bool) -> None:
    """End an extraction that waits; have one that runs end soon."""

    async def work(storage: Storage) -> Extraction:
        async with storage.store.begin() as unit:
            owner = (await _found(unit, extraction_id)).owner
            return await cancel_extraction(unit, open_queue(), owner, extraction_id, storage.clock.now())

    _tell(with_storage(work), as_json=as_json)


async def _found(unit: UnitOfWork, extraction_id: str) -> Extraction:
    extraction = await unit.extractions.find(extraction_id)
    if extraction is None:
        raise InputRefused("there is no such extraction; `feature-agent jobs list` shows the ids")
    return extraction


def _summary(extraction: Extraction) -> dict[str, object]:
    failure = extraction.failure
    return {
        "extraction_id": extraction.id,
        "owner": extraction.owner,
        "dataset_id": extraction.request.dataset_id,
        "status": extraction.status,
        "progress": extraction.progress,
        "stage": extraction.stage,
        "lane": extraction.lane,
        "attempt": extraction.attempt,
        "crashes": extraction.crashes,
        "retries": extraction.retries,
        "cancel_requested": extraction.cancel_requested,
        "created_at": extraction.created_at,
        "started_at": extraction.started_at,
        "finished_at": extraction.finished_at,
        "failure_code": failure.code if failure else None,
        "failure_message": failure.message if failure else None,
        "request_id": extraction.request_id,
        "trace_id": extraction.trace_id,
    }


def _cells(extraction: Extraction) -> tuple[str, ...]:
    return (
        extraction.id,
        extraction.owner,
        extraction.request.dataset_id,
        extraction.status,
        f"{extraction.progress} %",
        str(extraction.attempt),
        moment(extraction.created_at),
        moment(extraction.finished_at),
        extraction.failure.code if extraction.failure else "",
    )


def _tell(extraction: Extraction, *, as_json: bool, webhooks: Mapping[str, DeliveryState] | None = None) -> None:
    summary = _summary(extraction)
    if webhooks is not None:
        summary["webhooks"] = webhooks
    if as_json:
        print_json(summary)
        return
    table = Table(show_header=False)
    for name, value in summary.items():
        table.add_row(name, "-" if value is None else str(value))
    Console().print(table, markup=False)
