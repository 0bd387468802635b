"""Define how each error looks over HTTP, as a problem document (RFC 9457), and render it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Literal

from litestar import Request, Response
from litestar.datastructures import State
from litestar.openapi.datastructures import ResponseSpec
from msgspec import UNSET, Meta, Struct, UnsetType

from service.api.errors import MethodNotAllowed, translate
from service.api.quota_headers import quota_headers
from service.features.context import CURRENT
from service.features.errors import Category, FeatureAgentError, NotAuthenticated, QuotaExceeded
from service.features.model import Failure, FieldError

PROBLEM_JSON = "application/problem+json"
PROBLEM_PATH = "/api/problems"
"""A problem's `type` is this path and its code; a GET of it explains the problem."""

Severity = Literal["low", "medium", "high", "critical"]
"""low: the request was wrong; medium: it was refused; high: a dependency failed; critical: the service failed."""


class ProblemType(Struct, frozen=True):
    """Hold what all problems of one code have in common."""

    status: int
    category: Category
    severity: Severity
    title: str
    retry_after: int | None = None
    """Seconds to wait if the error itself has none; None if waiting does not help."""


PROBLEMS: dict[str, ProblemType] = {
    "request_malformed": ProblemType(400, "malformed", "low", "The request is malformed"),
    "host_not_allowed": ProblemType(400, "malformed", "low", "The host is not served here"),
    "not_authenticated": ProblemType(401, "authentication", "medium", "Credentials are missing or refused"),
    "scope_missing": ProblemType(403, "authorization", "medium", "The credentials lack a scope"),
    "route_not_found": ProblemType(404, "not_found", "low", "The path does not exist"),
    "dataset_not_found": ProblemType(404, "not_found", "low", "The dataset does not exist"),
    "extraction_not_found": ProblemType(404, "not_found", "low", "The extraction does not exist"),
    "method_not_allowed": ProblemType(405, "malformed", "low", "The path does not take this method"),
    "not_acceptable": ProblemType(406, "media_type", "low", "No form of the resource is acceptable"),
    "request_timeout": ProblemType(408, "malformed", "low", "The request arrived too slowly"),
    "dataset_exists": ProblemType(409, "conflict", "low", "The dataset exists already"),
    "dataset_changed": ProblemType(409, "conflict", "low", "The dataset was changed meanwhile"),
    "original_missing": ProblemType(409, "conflict", "low", "The uploaded file is not kept"),
    "extraction_not_ready": ProblemType(409, "conflict", "low", "The extraction has no feature table"),
    "extraction_ended": ProblemType(409, "conflict", "low", "The extraction has ended already"),
    "extraction_cancelled": ProblemType(409, "conflict", "low", "The extraction was cancelled"),
    "payload_too_large": ProblemType(413, "too_large", "low", "The body is too large"),
    "dataset_too_large": ProblemType(413, "too_large", "low", "The dataset has too many rows or cells"),
    "url_too_long": ProblemType(414, "too_large", "low", "The URL is too long"),
    "media_type_unsupported": ProblemType(415, "media_type", "low", "The content type is not supported"),
    "request_invalid": ProblemType(422, "validation", "low", "The request's content is invalid"),
    "completion_date_unreachable": ProblemType(422, "validation", "low", "The completion date is too soon"),
    "idempotency_key_reused": ProblemType(422, "validation", "low", "The Idempotency-Key stands for another request"),
    "dataset_unreadable": ProblemType(422, "validation", "low", "The dataset cannot be read"),
    "request_impossible": ProblemType(422, "validation", "low", "The dataset cannot give these features"),
    "compute_out_of_memory": ProblemType(422, "validation", "medium", "The features need too much memory"),
    "quality_too_low": ProblemType(422, "quality", "low", "No feature passed the quality threshold"),
    "rate_limited": ProblemType(429, "rate_limit", "medium", "Too many requests", retry_after=60),
    "too_many_at_once": ProblemType(429, "rate_limit", "medium", "Too many open requests of a kind", retry_after=2),
    "too_many_failures": ProblemType(429, "rate_limit", "medium", "Too many refused credentials", retry_after=2),
    "budget_exceeded": ProblemType(429, "budget", "medium", "The day's budget is spent", retry_after=3600),
    "too_many_connections_of_address": ProblemType(
        429, "rate_limit", "medium", "Too many connections from one address", retry_after=1
    ),
    "headers_too_large": ProblemType(431, "too_large", "low", "The header is too large"),
    "internal_error": ProblemType(500, "internal", "critical", "The service failed"),
    "compute_failed": ProblemType(500, "internal", "critical", "The features could not be computed"),
    "worker_lost": ProblemType(500, "internal", "critical", "The extraction ended its workers"),
    "model_unavailable": ProblemType(503, "model", "high", "No model answers", retry_after=30),
    "planning_busy": ProblemType(503, "model", "high", "Too many requests wait for a model", retry_after=5),
    "model_output_invalid": ProblemType(503, "model", "high", "The model gave no valid plan", retry_after=5),
    "dependency_unavailable": ProblemType(503, "dependency", "high", "A dependency does not answer", retry_after=5),
    "too_many_connections": ProblemType(503, "rate_limit", "high", "All connections are taken", retry_after=1),
    "model_timeout": ProblemType(504, "timeout", "high", "The model took too long", retry_after=30),
    "deadline_exceeded": ProblemType(504, "timeout", "high", "The work took too long", retry_after=30),
    "quota_exceeded": ProblemType(507, "quota", "medium", "The storage quota is used up"),
}
"""Status, category, severity and title of every error code; an unknown code is shown as `internal_error`."""


class Fault(Struct, frozen=True):
    """One fault of the request."""

    field: Annotated[
        str,
        Meta(
            description="Where it is: a field, a parameter, or a place in the dataset.",
            examples=["options.max_features"],
        ),
    ]
    message: Annotated[str, Meta(examples=["Expected `int` <= 200"])]


class Problem(Struct, frozen=True):
    """RFC 9457 problem details, extended."""

    type: Annotated[
        str,
        Meta(
            description="URI reference of the problem type; a GET explains it.",
            examples=["/api/problems/request_invalid"],
        ),
    ]
    title: Annotated[
        str, Meta(description="The same for all of the type.", examples=["The request's content is invalid"])
    ]
    status: Annotated[int, Meta(examples=[422])]
    detail: Annotated[str, Meta(description="What went wrong this time.", examples=["The request's body is invalid."])]
    instance: Annotated[
        str, Meta(description="Path of the request that failed.", examples=["/api/v1/extract-features"])
    ]
    error_category: Category
    error_code: Annotated[str, Meta(examples=["request_invalid"])]
    error_severity: Severity
    retry_after: Annotated[int | None, Meta(description="Seconds to wait before trying again.")]
    support_reference: Annotated[str, Meta(description="Quote this when asking for help.")]
    request_id: str
    trace_id: str
    errors: Annotated[tuple[Fault, ...], Meta(description="Every fault found.")]
    extraction_id: Annotated[str, Meta(description="The extraction that failed.")] | UnsetType = UNSET


def problem_of(error: FeatureAgentError, path: str) -> Problem:
    """Build the document for an error of a request to `path`."""
    return _problem(error.code, error.message, error.errors, error.retry_after, path)


def problem_of_failure(failure: Failure, path: str) -> Problem:
    """Build the document for a failed extraction, as the answer to a request to `path`."""
    return _problem(failure.code, failure.message, failure.errors, failure.retry_after, path)


def _problem(code: str, detail: str, errors: Iterable[FieldError], retry_after: float | None, path: str) -> Problem:
    code = code if code in PROBLEMS else "internal_error"
    kind, context = PROBLEMS[code], CURRENT.get()
    request_id = context.request_id if context else ""
    return Problem(
        type=f"{PROBLEM_PATH}/{code}",
        title=kind.title,
        status=kind.status,
        detail=detail,
        instance=path,
        error_category=kind.category,
        error_code=code,
        error_severity=kind.severity,
        retry_after=kind.retry_after if retry_after is None else max(1, math.ceil(retry_after)),
        support_reference=f"FA-{request_id}",
        request_id=request_id,
        trace_id=context.trace_id if context else "",
        errors=tuple(Fault(fault.field, fault.message) for fault in errors),
        extraction_id=(context.extraction_id if context else "") or UNSET,
    )


def answer_problem(request: Request[object, object, State], exception: Exception) -> Response[Problem]:
    """Answer any exception, as Litestar's exception handler."""
    error = translate(exception, request.path_params)
    problem = problem_of(error, request.scope["path"])
    headers: dict[str, str] = {}
    if problem.retry_after is not None:
        headers["Retry-After"] = str(problem.retry_after)
    if isinstance(error, NotAuthenticated):
        reason = "" if error.reason == "missing" else ' error="invalid_token"'
        headers["WWW-Authenticate"] = f'Bearer realm="feature-agent"{"," if reason else ""}{reason}'
    if isinstance(error, MethodNotAllowed):
        headers["Allow"] = error.allow
    if isinstance(error, QuotaExceeded):
        headers |= quota_headers(error.used, error.limits)
    return Response(problem, status_code=problem.status, headers=headers, media_type=PROBLEM_JSON)


def documented(*codes: str) -> dict[int, ResponseSpec]:
    """Return OpenAPI responses for the error codes that a route can answer."""
    statuses: dict[int, list[str]] = {}
    for code in codes:
        statuses.setdefault(PROBLEMS[code].status, []).append(code)
    return {
        status: ResponseSpec(
            data_container=Problem,
            description="; ".join(f"{PROBLEMS[code].title} (`{code}`)" for code in group),
            media_type=PROBLEM_JSON,
            generate_examples=False,
        )
        for status, group in statuses.items()
    }


ANYWHERE = ("request_malformed", "internal_error", "dependency_unavailable")
"""Codes that any route below /api/v1 can answer; `PROTECTED` has more."""

PROTECTED = (*ANYWHERE, "not_authenticated", "scope_missing", "rate_limited", "too_many_failures")
