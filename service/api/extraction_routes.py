"""`/extraction/{id}` and `/extractions`: read the state of extractions, and cancel or delete them."""

from __future__ import annotations

from typing import Annotated

from litestar import Response, delete, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import QueryParameter

from service.api.decoding import ApiRequest
from service.api.extraction_schemas import ExtractionAnswer, ExtractionListAnswer, ExtractionPage, StatusAnswer
from service.api.guards import reads_extractions, writes_extractions
from service.api.parameters import Cursor, DatasetIdQuery, ExtractionIdPath, Limit
from service.api.problems import PROTECTED, documented
from service.api.progress import status_of, until_ended
from service.api.services import ApiServices, Services
from service.api.views import extraction_summary, extraction_view, has_ended
from service.extractions.cancel import cancel
from service.features.errors import ExtractionEnded
from service.features.events import ExtractionFinished
from service.features.model import Extraction, Status

CANCEL_SECONDS = 2.0
"""Seconds that a cancellation waits for the run, which checks for it twice a second."""


@get(
    "/extraction/{extraction_id:str}",
    operation_id="get_extraction",
    tags=["extractions"],
    summary="Read an extraction",
    opt=reads_extractions,
    response_description="The extraction with all that it came to.",
    responses=documented(*PROTECTED, "extraction_not_found"),
)
async def get_extraction(request: ApiRequest, services: Services, extraction_id: ExtractionIdPath) -> ExtractionAnswer:
    """The request, the features with their lineage, the rejected ones with the reason, the model and the quality."""
    async with services.store.begin() as work:
        extraction = await work.extractions.get(request.user.id, extraction_id)
    return ExtractionAnswer.of(extraction_view(extraction, services.links(extraction)))


@get(
    "/extraction/{extraction_id:str}/status",
    operation_id="get_extraction_status",
    tags=["extractions"],
    summary="Ask how far an extraction has come",
    opt=reads_extractions,
    response_description="The extraction's progress.",
    responses=documented(*PROTECTED, "extraction_not_found"),
)
async def get_extraction_status(request: ApiRequest, extraction_id: ExtractionIdPath) -> StatusAnswer:
    """Cheap to ask often."""
    services = request.services
    state = await services.store.state_of(request.user.id, extraction_id)
    return StatusAnswer.of(await status_of(services, state))


@delete(
    "/extraction/{extraction_id:str}",
    operation_id="delete_extraction",
    tags=["extractions"],
    summary="Cancel or delete an extraction",
    status_code=200,
    opt=writes_extractions,
    response_description="The extraction is cancelled, or ended by itself just now.",
    responses={
        202: ResponseSpec(StatusAnswer, description="The run is being ended.", generate_examples=False),
        204: ResponseSpec(None, description="The extraction had ended, and is gone.", generate_examples=False),
        **documented(*PROTECTED, "extraction_not_found", "extraction_not_ready"),
    },
)
async def delete_extraction(
    request: ApiRequest, services: Services, extraction_id: ExtractionIdPath
) -> Response[StatusAnswer | None]:
    """One that has not ended is cancelled and stays to be read; one that has is deleted, with its feature table."""
    try:
        extraction = await _cancel(services, request.user.id, extraction_id)
    except ExtractionEnded:
        await _remove(services, request.user.id, extraction_id)
        return Response(None, status_code=204)
    answer = StatusAnswer.of(await status_of(services, extraction))
    return Response(answer, status_code=200 if has_ended(extraction) else 202)


async def _cancel(services: ApiServices, owner: str, extraction_id: str) -> Extraction:
    """Request the cancellation and return the extraction soon after. Raises ExtractionNotFound, ExtractionEnded."""
    now = services.clock.now()
    async with services.store.begin() as work:
        extraction = await cancel(work, services.queue, owner, extraction_id, now)
    if not has_ended(extraction):
        return await until_ended(services, extraction, CANCEL_SECONDS)
    threshold, seconds = extraction.request.quality_threshold, (now - (extraction.started_at or now)).total_seconds()
    services.observer.record(ExtractionFinished(extraction.id, threshold, "cancelled", seconds))
    return extraction


async def _remove(services: ApiServices, owner: str, extraction_id: str) -> None:
    """Delete row and file together: if the file cannot be deleted, the row stays, so that the client can retry."""
    async with services.store.begin() as work:
        extraction = await work.extractions.remove(owner, extraction_id)
        if extraction.result is not None:
            await services.artifacts.delete(extraction.result.artifact_key)


@get(
    "/extractions",
    operation_id="list_extractions",
    tags=["extractions"],
    summary="List your extractions",
    opt=reads_extractions,
    response_description="A page of extractions, newest first.",
    responses=documented(*PROTECTED, "request_invalid"),
)
async def list_extractions(
    request: ApiRequest,
    services: Services,
    status: Annotated[Status | None, QueryParameter(description="Only those of this status.")] = None,
    dataset_id: DatasetIdQuery = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> ExtractionListAnswer:
    """Newest first."""
    async with services.store.begin() as work:
        page = await work.extractions.list(
            request.user.id, limit=limit, cursor=cursor, status=status, dataset_id=dataset_id
        )
    items = tuple(extraction_summary(extraction, services.links(extraction)) for extraction in page.items)
    return ExtractionListAnswer.of(ExtractionPage(items, page.next_cursor))
