"""Define errors that exist only over HTTP, and translate every other exception for the client."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any, cast

from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)
from litestar.exceptions.http_exceptions import RequestEntityTooLarge

from service.features.errors import (
    DatasetNotFound,
    ExtractionNotFound,
    FeatureAgentError,
    InvalidRequest,
    PayloadTooLarge,
)
from service.features.model import FieldError


class MalformedRequest(FeatureAgentError):
    """The bytes do not match their content type, or violate HTTP."""

    code = "request_malformed"
    category = "malformed"


class HostNotAllowed(FeatureAgentError):
    """The Host header names a host that this service does not serve."""

    code = "host_not_allowed"
    category = "malformed"


class UrlTooLong(FeatureAgentError):
    """The request's target is longer than the service reads."""

    code = "url_too_long"
    category = "too_large"


class HeadersTooLarge(FeatureAgentError):
    """The request's header has more fields, or more bytes, than the service reads."""

    code = "headers_too_large"
    category = "too_large"


class RequestTimeout(FeatureAgentError):
    """The request arrived too slowly."""

    code = "request_timeout"
    category = "malformed"


class TooManyConnections(FeatureAgentError):
    """All connections of the process are taken."""

    code = "too_many_connections"
    category = "rate_limit"


class TooManyConnectionsOfAddress(FeatureAgentError):
    """The client's address has all connections that one may have."""

    code = "too_many_connections_of_address"
    category = "rate_limit"


class RouteNotFound(FeatureAgentError):
    """No route has this path."""

    code = "route_not_found"
    category = "not_found"


class MethodNotAllowed(FeatureAgentError):
    """The path exists but does not accept this method."""

    code = "method_not_allowed"
    category = "malformed"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow
        """Value of the Allow header."""


class NotAcceptable(FeatureAgentError):
    """The resource has no representation that the Accept header allows."""

    code = "not_acceptable"
    category = "media_type"


class MediaTypeUnsupported(FeatureAgentError):
    """The route does not read the body's content type or encoding."""

    code = "media_type_unsupported"
    category = "media_type"


class ExtractionCancelled(FeatureAgentError):
    """The extraction that the request waited for was cancelled by another request."""

    code = "extraction_cancelled"
    category = "conflict"


class InternalError(FeatureAgentError):
    """Something failed that is not the client's fault; the log has more under the same request id."""


INTERNAL_SERVER_ERROR = 500

MISSING: dict[str, type[FeatureAgentError]] = {
    "dataset_id": DatasetNotFound,
    "extraction_id": ExtractionNotFound,
}
"""Error for a path parameter that cannot be an id at all: it names nothing that exists."""

HEADERS = {"idempotency_key": "Idempotency-Key"}
"""Header fields that can be invalid, by the framework's names for them."""


def translate(error: Exception, path_parameters: Container[str] = ()) -> FeatureAgentError:
    """Return the error to show for an exception; an unexpected one becomes an InternalError without details.

    `path_parameters` are those of the request's route: a value that cannot be an id is reported as not found.
    """
    if isinstance(error, FeatureAgentError):
        return error
    if isinstance(error, HTTPException) and error.status_code < INTERNAL_SERVER_ERROR:
        return _of_http(error, path_parameters)
    return InternalError("The request failed for an unexpected reason. Quote the support reference.")


def _of_http(error: HTTPException, path_parameters: Container[str]) -> FeatureAgentError:
    match error:
        case ValidationException():
            return _invalid(error, path_parameters)
        case NotFoundException():
            return RouteNotFound("No route has this path.")
        case MethodNotAllowedException():
            allow = (error.headers or {}).get("allow", "")
            return MethodNotAllowed(f"This path takes {allow} only.", allow=allow)
        case RequestEntityTooLarge():
            return PayloadTooLarge("The request body is larger than this route takes.")
        case _:
            return MalformedRequest("The request is malformed.")


def _invalid(error: ValidationException, path_parameters: Container[str]) -> FeatureAgentError:
    """Translate Litestar's validation error: `extra` lists {key, message, source}; `dataset_id`'s is wrong."""
    faults = [cast("Mapping[str, Any]", fault) for fault in cast("list[object]", error.extra or []) if _is_fault(fault)]
    for fault in faults:
        if fault["key"] in path_parameters and (missing := MISSING.get(str(fault["key"]))):
            return missing(f"There is no such {fault['key'].removesuffix('_id')}.")
    named = [(str(fault["key"]), str(fault["message"])) for fault in faults]
    errors = [FieldError(HEADERS.get(key, key), message) for key, message in named]
    return InvalidRequest("The request's parameters are invalid.", errors=errors)


def _is_fault(fault: object) -> bool:
    return isinstance(fault, Mapping) and "key" in fault and "message" in fault
