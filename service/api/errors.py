"""Errors that only HTTP knows, and the translation of every other exception into an error that a client may see."""

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
    """The bytes are not what their content type says, or break HTTP."""

    code = "request_malformed"
    category = "malformed"


class HostNotAllowed(FeatureAgentError):
    """The Host header names a host that this service does not answer for."""

    code = "host_not_allowed"
    category = "malformed"


class RouteNotFound(FeatureAgentError):
    """No route has this path."""

    code = "route_not_found"
    category = "not_found"


class MethodNotAllowed(FeatureAgentError):
    """The path exists and does not take this method."""

    code = "method_not_allowed"
    category = "malformed"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow
        """Value of the Allow header."""


class NotAcceptable(FeatureAgentError):
    """The resource has no form that the Accept header admits."""

    code = "not_acceptable"
    category = "media_type"


class MediaTypeUnsupported(FeatureAgentError):
    """The body's content type or encoding is not one that the route reads."""

    code = "media_type_unsupported"
    category = "media_type"


class ExtractionCancelled(FeatureAgentError):
    """The extraction that the request waited for was cancelled by another one."""

    code = "extraction_cancelled"
    category = "conflict"


class InternalError(FeatureAgentError):
    """Something broke that the client has no part in; the log line of the same request id knows more."""


INTERNAL_SERVER_ERROR = 500

MISSING: dict[str, type[FeatureAgentError]] = {
    "dataset_id": DatasetNotFound,
    "extraction_id": ExtractionNotFound,
}
"""What is not there when a path parameter cannot be an id at all."""

HEADERS = {"idempotency_key": "Idempotency-Key"}
"""Header fields that can be wrong, by the names that the framework has for them."""


def translate(error: Exception, path_parameters: Container[str] = ()) -> FeatureAgentError:
    """The error to show for any exception; an unexpected one becomes an InternalError that tells nothing.

    `path_parameters` are those of the request's route: what cannot be an id is the id of nothing.
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
    """Litestar's parameter validation: `extra` lists {key, message, source}; the source of `dataset_id` is wrong."""
    faults = [cast("Mapping[str, Any]", fault) for fault in cast("list[object]", error.extra or []) if _is_fault(fault)]
    for fault in faults:
        if fault["key"] in path_parameters and (missing := MISSING.get(str(fault["key"]))):
            return missing(f"There is no such {fault['key'].removesuffix('_id')}.")
    named = [(str(fault["key"]), str(fault["message"])) for fault in faults]
    errors = [FieldError(HEADERS.get(key, key), message) for key, message in named]
    return InvalidRequest("The request's parameters are invalid.", errors=errors)


def _is_fault(fault: object) -> bool:
    return isinstance(fault, Mapping) and "key" in fault and "message" in fault
