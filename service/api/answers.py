"""Encode final answers of extractions, and keep them by idempotency key so that equal requests get equal bytes."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from litestar import Response

from service.api.decoding import ApiRequest
from service.api.errors import ExtractionCancelled
from service.api.extraction_schemas import ExtractionAnswer
from service.api.observability_links import Links
from service.api.problems import PROBLEM_JSON, Problem, problem_of, problem_of_failure
from service.api.schemas import ExtractionBody
from service.api.services import ApiServices
from service.api.views import extraction_path, extraction_view
from service.features.errors import InvalidRequest
from service.features.extract import IdempotencyClaim
from service.features.model import Extraction, FieldError
from service.features.stores import StoredAnswer

IDEMPOTENCY_KEY = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
CONTENT_TYPE = "content-type"


def claim_of(request: ApiRequest, key: str | None, body: ExtractionBody) -> IdempotencyClaim | None:
    """Return the idempotency claim of a request; None without a key.

    Its digest ignores spacing and order of the JSON, and how long the client waits. Raises InvalidRequest if the key is
    sent twice.
    """
    if key is None:
        return None
    if len(request.headers.getall(IDEMPOTENCY_KEY)) > 1:
        raise InvalidRequest(
            "The request's headers are invalid.", errors=[FieldError(IDEMPOTENCY_KEY, "is given twice")]
        )
    route = f"{request.method} {request.scope['path']}\n"
    return IdempotencyClaim(key, hashlib.sha256(route.encode() + body.canonical()).digest())


def final_answer(extraction: Extraction, path: str, observability_links: Links) -> StoredAnswer:
    """Encode the final answer of a request to `path`: the extraction, or the problem that it ended with."""
    if extraction.status == "completed":
        body = ExtractionAnswer.of(extraction_view(extraction, observability_links))
        headers = {CONTENT_TYPE: "application/json", "location": extraction_path(extraction.id)}
        return StoredAnswer(200, headers, msgspec.json.encode(body))
    problem = _problem(extraction, path)
    headers = {CONTENT_TYPE: PROBLEM_JSON}
    if problem.retry_after is not None:
        headers["retry-after"] = str(problem.retry_after)
    return StoredAnswer(problem.status, headers, msgspec.json.encode(problem))


def _problem(extraction: Extraction, path: str) -> Problem:
    if extraction.failure is None:
        return problem_of(ExtractionCancelled("The extraction was cancelled before it was done."), path)
    return problem_of_failure(extraction.failure, path)


async def is_repeat(services: ApiServices, owner: str, claim: IdempotencyClaim) -> bool:
    """Check whether the key was already used for exactly this request."""
    async with services.store.begin() as work:
        record = await work.idempotency.find(owner, claim.key, services.clock.now())
    return record is not None and record.digest == claim.digest


async def store_answer(
    services: ApiServices, extraction: Extraction, claim: IdempotencyClaim, answer: StoredAnswer
) -> StoredAnswer:
    """Store the answer under the key, and return the stored one: equal requests share the first answer.

    If the key is no longer stored, the answer is returned unchanged.
    """
    owner, now = extraction.owner, services.clock.now()
    async with services.store.begin() as work:
        record = await work.idempotency.find(owner, claim.key, now)
        if record is None or record.extraction_id != extraction.id:
            return answer
        await work.idempotency.answer(owner, claim.key, answer)
        kept = await work.idempotency.find(owner, claim.key, now)
    return kept.answer if kept is not None and kept.answer is not None else answer


def respond(answer: StoredAnswer, *, replayed: bool, more: dict[str, str]) -> Response[Any]:
    """Build the response from the stored bytes."""
    headers = {name: value for name, value in answer.headers.items() if name != CONTENT_TYPE}
    return Response(
        answer.body,
        status_code=answer.status,
        headers=headers | more | replayed_header(replayed=replayed),
        media_type=answer.headers[CONTENT_TYPE],
    )


def replayed_header(*, replayed: bool) -> dict[str, str]:
    """Build the header that marks a repeated request."""
    return {REPLAYED: "true"} if replayed else {}
