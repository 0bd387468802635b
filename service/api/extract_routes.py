"""`POST /extract-features`: accept a request, and answer with its result if that is ready soon enough."""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from litestar import Response, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody, SkipValidation
from msgspec.structs import replace

from service.api.answers import claim_of, final_answer, is_repeat, replayed_header, respond, store_answer
from service.api.decoding import ApiRequest
from service.api.extraction_schemas import ExtractionAnswer, StatusAnswer
from service.api.guards import writes_extractions
from service.api.parameters import (
    LOCATION,
    PREFERENCE_APPLIED,
    REPLAYED,
    CacheControl,
    IdempotencyKey,
    Prefer,
    wants_fresh,
)
from service.api.preferences import Preferences, read_preferences
from service.api.problems import PROTECTED, documented
from service.api.progress import status_of, wait_or_detach
from service.api.schemas import MINIMUM_DESCRIPTION, ExtractionBody
from service.api.services import ApiConfig, ApiServices
from service.api.views import extraction_path, has_ended
from service.features.context import CURRENT
from service.features.errors import InvalidRequest
from service.features.events import RequestOverShare
from service.features.extract import IdempotencyClaim
from service.features.model import Extraction, FieldError
from service.planning.load_shedder import LoadShedder
from service.webhooks.callbacks import CallbackRefused

MIN_RETRY_SECONDS = 1
MAX_RETRY_SECONDS = 30
"""Bounds of the Retry-After of a 202."""


@dataclass(frozen=True, slots=True)
class ExtractDependencies:
    """Everything that the route needs, as one dependency: the framework resolves each in a task of its own."""

    services: ApiServices
    config: ApiConfig
    load_shedder: LoadShedder


@post(
    "/extract-features",
    operation_id="extract_features",
    tags=["extractions"],
    summary="Extract features",
    status_code=200,
    opt=writes_extractions,
    response_headers=[LOCATION, PREFERENCE_APPLIED, REPLAYED],
    response_description="The completed extraction.",
    responses={
        202: ResponseSpec(
            StatusAnswer,
            description="Accepted and not done yet; it is found at `Location`, and asked for after `Retry-After`.",
            generate_examples=False,
        ),
        **documented(
            *PROTECTED, "dataset_not_found", "extraction_not_found", "extraction_cancelled", "payload_too_large",
            "media_type_unsupported", "request_invalid", "completion_date_unreachable", "idempotency_key_reused",
            "request_impossible", "quality_too_low", "compute_out_of_memory", "compute_failed", "worker_lost",
            "model_unavailable", "model_output_invalid", "model_timeout", "deadline_exceeded", "planning_busy",
            "budget_exceeded", "quota_exceeded",
        ),
    },
)  # fmt: skip
async def extract_features(
    request: ApiRequest,
    extract_dependencies: NamedDependency[SkipValidation[ExtractDependencies]],
    *,
    data: JSONBody[ExtractionBody],
    cache_control: CacheControl = None,
    prefer: Prefer = None,  # noqa: ARG001 (for the schema: all lines of the header are read)
    idempotency_key: IdempotencyKey = None,
) -> Response[ExtractionAnswer]:
    """Plans the described features, computes and scores them, and answers with those that are good enough.

    What takes longer than the client wants to wait, or the service lets it, is answered 202 and goes on; it also goes
    on when the connection is lost, and when the service restarts. With an `Idempotency-Key`, sending the request again
    is safe: it makes no second extraction and gets the same answer, that of a failed extraction too.
    """
    services, config = extract_dependencies.services, extract_dependencies.config
    preferences = read_preferences(request.headers.getall("prefer", []), config.sync_wait_seconds)
    claim = claim_of(request, idempotency_key, data)
    await _require_valid(services, request.user.id, data, claim)
    wanted = data.to_request(fresh=wants_fresh(cache_control))
    if claim is None and (repeated := await services.repeat(request.user.id, wanted)) is not None:
        _note_id(repeated)
        answer = final_answer(repeated, request.scope["path"], services.links(repeated))
        return respond(answer, replayed=False, more=preferences.applied(unfinished=False))
    preferences = _within_share(services, request.user.id, preferences)
    detached = not preferences.seconds
    with nullcontext() if detached else _waiting(extract_dependencies, request.user.id, claim):
        accepted = await services.accept(request.user.id, wanted, detached=detached, claim=claim)
        _note_id(accepted.extraction)
        if accepted.answer is not None:
            return respond(accepted.answer, replayed=True, more=preferences.applied(unfinished=False))
        extraction = await wait_or_detach(services, request, accepted.extraction, preferences.seconds)
    services.repeat.keep(accepted, extraction)
    applied = preferences.applied(unfinished=not has_ended(extraction))
    if not has_ended(extraction):
        return await _unfinished(services, extraction, applied | replayed_header(replayed=accepted.replayed))
    answer = own = final_answer(extraction, request.scope["path"], services.links(extraction))
    if claim is not None:
        answer = await store_answer(services, extraction, claim, own)
    return respond(answer, replayed=accepted.replayed or answer != own, more=applied)


def _within_share(services: ApiServices, owner: str, preferences: Preferences) -> Preferences:
    """Return the preferences, without a wait when as many requests of the principal wait as may."""
    if not preferences.seconds or not services.shares.is_full(owner, "wait"):
        return preferences
    services.observer.record(RequestOverShare("wait"))
    return replace(preferences, seconds=0.0, wait="")


@contextmanager
def _waiting(dependencies: ExtractDependencies, owner: str, claim: IdempotencyClaim | None) -> Generator[None]:
    """Count a request that waits, among its principal's and among all. Raises PlanningBusy."""
    key = None if claim is None else (owner, claim.key)
    with dependencies.services.shares.hold(owner, "wait"), dependencies.load_shedder.admit(key):
        yield


async def _unfinished(services: ApiServices, extraction: Extraction, headers: dict[str, str]) -> Response[Any]:
    status = await status_of(services, extraction)
    left = MIN_RETRY_SECONDS
    if status.estimated_completion is not None:
        left = math.ceil((status.estimated_completion - services.clock.now()).total_seconds())
    retry_after = min(max(left, MIN_RETRY_SECONDS), MAX_RETRY_SECONDS)
    own = {"Location": extraction_path(extraction.id), "Retry-After": str(retry_after)}
    return Response(StatusAnswer.of(status), status_code=202, headers=own | headers)


def _note_id(extraction: Extraction) -> None:
    """Set the extraction's id for logs, and for the problem document of a later failure."""
    if context := CURRENT.get():
        context.extraction_id = extraction.id


async def _require_valid(
    services: ApiServices, owner: str, body: ExtractionBody, claim: IdempotencyClaim | None
) -> None:
    """Raise InvalidRequest for what a schema cannot check, except for a repeat of an accepted request."""
    faults = _faults(body, services)
    if faults and not (claim is not None and await is_repeat(services, owner, claim)):
        raise InvalidRequest("The request's body is invalid.", errors=faults)


def _faults(body: ExtractionBody, services: ApiServices) -> list[FieldError]:
    errors: list[FieldError] = []
    if len(body.feature_description.strip()) < MINIMUM_DESCRIPTION:
        errors.append(FieldError("feature_description", "must have at least 5 characters that are not space"))
    if "\0" in body.feature_description:
        errors.append(FieldError("feature_description", "must not contain the null character"))
    if body.completion_date is not None and body.completion_date < services.clock.now().date():
        errors.append(FieldError("completion_date", "must not be in the past (UTC)"))
    if body.callback_url is not None:
        try:
            services.callbacks.target(body.callback_url)
        except CallbackRefused as refused:
            errors.append(FieldError("callback_url", str(refused)))
    return errors
