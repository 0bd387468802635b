"""Serve the secrets that verify webhooks, and the deliveries of an extraction's webhooks."""

from __future__ import annotations

from litestar import get

from service.api.decoding import ApiRequest
from service.api.guards import reads_extractions, writes_extractions
from service.api.parameters import ExtractionIdPath
from service.api.problems import PROTECTED, documented
from service.api.services import Services
from service.api.webhook_schemas import (
    DeliveriesAnswer,
    DeliveriesView,
    SecretsAnswer,
    SecretsView,
    delivery_view,
)


@get(
    "/webhooks/secrets",
    operation_id="get_webhook_secrets",
    tags=["webhooks"],
    summary="Read the secrets that webhooks are signed with",
    opt=writes_extractions,
    response_description="The secrets of the caller.",
    responses=documented(*PROTECTED),
    sync_to_thread=False,
)
def get_webhook_secrets(request: ApiRequest, services: Services) -> SecretsAnswer:
    """All keys of one principal get the same; nobody else's verify its webhooks. Keep them as you keep an API key."""
    return SecretsAnswer.of(SecretsView(tuple(services.webhook_secrets(request.user.id))))


@get(
    "/extraction/{extraction_id:str}/deliveries",
    operation_id="list_webhook_deliveries",
    tags=["webhooks"],
    summary="Ask what became of an extraction's webhooks",
    opt=reads_extractions,
    response_description="The webhooks with every try.",
    responses=documented(*PROTECTED, "extraction_not_found"),
)
async def list_webhook_deliveries(
    request: ApiRequest, services: Services, extraction_id: ExtractionIdPath
) -> DeliveriesAnswer:
    """None before the extraction has ended, and none when it was asked for without a `callback_url`."""
    async with services.store.begin() as work:
        await work.extractions.get(request.user.id, extraction_id)
        found = await work.deliveries.of_extraction(extraction_id)
    return DeliveriesAnswer.of(DeliveriesView(tuple(delivery_view(delivery) for delivery in found)))
