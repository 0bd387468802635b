"""`feature-agent webhooks`: the operator's view of what was sent to callbacks, over all principals."""

from __future__ import annotations

from typing import cast, get_args

import click
from rich.console import Console
from rich.table import Table

from service.commands.failures import InputRefused
from service.commands.running import moment, print_json, with_storage
from service.features.delivery import Delivery, DeliveryState
from service.resources.jobs import open_queue
from service.resources.storage import Storage
from service.webhooks.callbacks import shown

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def webhooks() -> None:
    """List, show and retry webhooks of all principals."""


@webhooks.command("list")
@click.option("--state", type=click.Choice(get_args(DeliveryState)), help="Only those.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@json_option
def list_webhooks(state: str | None, limit: int, *, as_json: bool) -> None:
    """List the newest webhooks; of an address only the host is shown, the rest may be a secret."""

    async def work(storage: Storage) -> tuple[Delivery, ...]:
        async with storage.store.begin() as unit:
            return await unit.deliveries.newest(limit, cast("DeliveryState | None", state))

    found = with_storage(work)
    if as_json:
        print_json([_summary(delivery) for delivery in found])
        return
    table = Table("id", "extraction", "owner", "type", "address", "state", "tries", "created (UTC)", "next try (UTC)")
    for delivery in found:
        table.add_row(*_cells(delivery))
    Console().print(table, markup=False)


@webhooks.command()
@click.argument("webhook_id", metavar="ID")
@json_option
def show(webhook_id: str, *, as_json: bool) -> None:
    """Show a webhook with every try."""

    async def work(storage: Storage) -> Delivery:
        async with storage.store.begin() as unit:
            return _required(await unit.deliveries.find(webhook_id))

    _tell(with_storage(work), as_json=as_json)


@webhooks.command()
@click.argument("webhook_id", metavar="ID")
@json_option
def retry(webhook_id: str, *, as_json: bool) -> None:
    """Have a webhook that was given up tried again, from the beginning."""

    async def work(storage: Storage) -> Delivery:
        async with storage.store.begin() as unit:
            _required(await unit.deliveries.find(webhook_id))
            revived = await unit.deliveries.revive(webhook_id, storage.clock.now())
            if revived is None:
                raise InputRefused("the webhook has not failed: there is nothing to try again")
            await open_queue().enqueue_delivery(unit, revived)
            return revived

    _tell(with_storage(work), as_json=as_json)


def _required(delivery: Delivery | None) -> Delivery:
    if delivery is None:
        raise InputRefused("there is no such webhook; `feature-agent webhooks list` shows the ids")
    return delivery


def _summary(delivery: Delivery) -> dict[str, object]:
    return {
        "webhook_id": delivery.id,
        "extraction_id": delivery.extraction_id,
        "owner": delivery.owner,
        "type": delivery.event_type,
        "address": shown(delivery.url),
        "state": delivery.state,
        "created_at": delivery.created_at,
        "next_attempt_at": delivery.next_attempt_at,
        "finished_at": delivery.finished_at,
        "attempts": delivery.log.attempts,
    }


def _cells(delivery: Delivery) -> tuple[str, ...]:
    return (
        delivery.id,
        delivery.extraction_id,
        delivery.owner,
        delivery.event_type,
        shown(delivery.url),
        delivery.state,
        str(delivery.attempt),
        moment(delivery.created_at),
        moment(delivery.next_attempt_at),
    )


def _tell(delivery: Delivery, *, as_json: bool) -> None:
    summary = _summary(delivery)
    if as_json:
        print_json(summary)
        return
    table = Table(show_header=False)
    for name, value in summary.items():
        if name != "attempts":
            table.add_row(name, "-" if value is None else str(value))
    for tried in delivery.log.attempts:
        status = "" if tried.status_code is None else f" {tried.status_code}"
        table.add_row(f"try {tried.number}", f"{moment(tried.at)} {tried.outcome}{status}")
    Console().print(table, markup=False)
