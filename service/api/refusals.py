"""Answer connections that the server refuses before there is a request, in the form of every other problem."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

import msgspec

from service.api.errors import (
    HeadersTooLarge,
    MalformedRequest,
    RequestTimeout,
    TooManyConnections,
    TooManyConnectionsOfAddress,
    UrlTooLong,
)
from service.api.headers import NO_STORE, NOSNIFF
from service.api.problems import PROBLEM_JSON, Problem, problem_of
from service.features.context import CURRENT, RequestContext
from service.features.errors import FeatureAgentError
from service.features.events import ConnectionRefusal

ERRORS: dict[ConnectionRefusal, FeatureAgentError] = {
    "url_too_long": UrlTooLong("The URL is longer than the service accepts."),
    "headers_too_large": HeadersTooLarge("The header is larger than the service accepts."),
    "too_many_headers": HeadersTooLarge("The header has more fields than the service accepts."),
    "malformed": MalformedRequest("The request is not HTTP/1.1."),
    "ambiguous": MalformedRequest(
        "Send one Host field, at most one Authorization field, and a target on the same host."
    ),
    "header_timeout": RequestTimeout("The header did not arrive in time."),
    "body_timeout": RequestTimeout("The body arrives too slowly."),
    "too_many_connections": TooManyConnections("All connections are taken; try again."),
    "too_many_connections_of_address": TooManyConnectionsOfAddress(
        "This address has as many connections as one may have; use them again, or close some."
    ),
}
"""For the other reasons there is no answer: one client takes none, one has not asked."""


def answer_refusal(refusal: ConnectionRefusal, path: str) -> tuple[int, Sequence[tuple[bytes, bytes]], bytes]:
    """Return status, header fields and body for a refused request to `path`, which is empty where it is not known."""
    problem = _problem(ERRORS[refusal], path)
    body = msgspec.json.encode(problem)
    headers = [
        (b"content-type", PROBLEM_JSON.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", problem.request_id.encode()),
        NOSNIFF,
        NO_STORE,
    ]
    if problem.retry_after is not None:
        headers.append((b"retry-after", b"%d" % problem.retry_after))
    return problem.status, headers, body


def _problem(error: FeatureAgentError, path: str) -> Problem:
    token = CURRENT.set(RequestContext(request_id=uuid4().hex))
    try:
        return problem_of(error, path)
    finally:
        CURRENT.reset(token)
