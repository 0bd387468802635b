"""`/extract-features`, `/extraction/{id}` and `/extractions`: ask for features and read what became of it."""

from __future__ import annotations

from typing import Annotated

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter, SkipValidation

from service.api.decoding import ApiRequest
from service.api.extraction_schemas import ExtractionAnswer, ExtractionListAnswer, ExtractionPage, StatusAnswer
from service.api.guards import reads_extractions, writes_extractions
from service.api.parameters import (
    LOCATION,
    CacheControl,
    Cursor,
    DatasetIdQuery,
    ExtractionIdPath,
    Limit,
    wants_fresh,
)
from service.api.problems import PROTECTED, documented
from service.api.running import RunningExtractions
from service.api.schemas import MINIMUM_DESCRIPTION, ExtractionBody
from service.api.services import Config, Services
from service.api.views import extraction_path, extraction_summary, extraction_view, status_view
from service.features.deadline import deadline
from service.features.errors import InvalidRequest
from service.features.model import ExtractionRequest, FieldError, Status
from service.features.ports import Clock

Running = NamedDependency[SkipValidation[RunningExtractions]]


@post(
    "/extract-features",
    operation_id="extract_features",
    tags=["extractions"],
    summary="Extract features",
    status_code=200,
    guards=[writes_extractions],
    response_headers=[LOCATION],
    response_description="The completed extraction.",
    responses=documented(
        *PROTECTED, "dataset_not_found", "payload_too_large", "media_type_unsupported", "request_invalid",
        "request_impossible", "quality_too_low", "compute_out_of_memory", "compute_failed", "model_unavailable",
        "model_output_invalid", "model_timeout", "deadline_exceeded", "planning_busy", "budget_exceeded",
    ),
)  # fmt: skip
async def extract_features(
    request: ApiRequest,
    services: Services,
    config: Config,
    running: Running,
    data: JSONBody[ExtractionBody],
    cache_control: CacheControl = None,
) -> Response[ExtractionAnswer]:
    """Plans the described features, computes and scores them, and answers with those that are good enough.

    The extraction goes on to its end when the connection is lost; `GET /extractions` finds it.
    """
    wanted = _sensible(data, services.clock, fresh=wants_fresh(cache_control))
    with running.door.inside(), deadline(config.extraction_seconds):
        accepted = await services.extract.accept(request.user.id, wanted)
        finished = await running.finish(accepted)
    return Response(ExtractionAnswer.of(extraction_view(finished)), headers={"Location": extraction_path(finished.id)})


@get(
    "/extraction/{extraction_id:str}",
    operation_id="get_extraction",
    tags=["extractions"],
    summary="Read an extraction",
    guards=[reads_extractions],
    response_description="The extraction with all that it came to.",
    responses=documented(*PROTECTED, "extraction_not_found"),
)
async def get_extraction(request: ApiRequest, services: Services, extraction_id: ExtractionIdPath) -> ExtractionAnswer:
    """The request, the features with their lineage, the rejected ones with the reason, the model and the quality."""
    async with services.store.begin() as work:
        extraction = await work.extractions.get(request.user.id, extraction_id)
    return ExtractionAnswer.of(extraction_view(extraction))


@get(
    "/extraction/{extraction_id:str}/status",
    operation_id="get_extraction_status",
    tags=["extractions"],
    summary="Ask how far an extraction has come",
    guards=[reads_extractions],
    response_description="The extraction's progress.",
    responses=documented(*PROTECTED, "extraction_not_found"),
)
async def get_extraction_status(
    request: ApiRequest, services: Services, extraction_id: ExtractionIdPath
) -> StatusAnswer:
    """Cheap to ask often."""
    async with services.store.begin() as work:
        extraction = await work.extractions.get(request.user.id, extraction_id)
    return StatusAnswer.of(status_view(extraction, services.clock.now()))


@get(
    "/extractions",
    operation_id="list_extractions",
    tags=["extractions"],
    summary="List your extractions",
    guards=[reads_extractions],
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
    items = tuple(extraction_summary(extraction) for extraction in page.items)
    return ExtractionListAnswer.of(ExtractionPage(items, page.next_cursor))


def _sensible(body: ExtractionBody, clock: Clock, *, fresh: bool) -> ExtractionRequest:
    """The request, once what no schema can say of it holds. Raises InvalidRequest."""
    errors: list[FieldError] = []
    if len(body.feature_description.strip()) < MINIMUM_DESCRIPTION:
        errors.append(FieldError("feature_description", "must have at least 5 characters that are not space"))
    if "\0" in body.feature_description:
        errors.append(FieldError("feature_description", "must not contain the null character"))
    if body.completion_date is not None and body.completion_date < clock.now().date():
        errors.append(FieldError("completion_date", "must not be in the past (UTC)"))
    if errors:
        raise InvalidRequest("The request's body is invalid.", errors=errors)
    return body.to_request(fresh=fresh)
