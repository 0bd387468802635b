"""Build the OpenAPI document: the framework's paths, with msgspec's component schemas.

The framework's own component schemas lose `additionalProperties`, give structs' defaults as text, and write unions as
`oneOf` where several branches match. msgspec, which reads and writes the structs, describes them exactly.
"""

from __future__ import annotations

import copy
from typing import Any

import msgspec
from litestar import Request
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.serialization import encode_json
from msgspec import Struct

from service.api.extraction_schemas import ExtractionAnswer, ExtractionListAnswer, StatusAnswer
from service.api.problems import Problem
from service.api.read_options import ReadOptionsBody
from service.api.schemas import (
    DatasetAnswer,
    DatasetListAnswer,
    ExtractionBody,
    HealthView,
    LivenessView,
    ReadinessView,
    TokenAnswer,
)
from service.api.usage_schemas import UsageAnswer
from service.api.webhook_schemas import DeliveriesAnswer, SecretsAnswer
from service.webhooks.payload import EVENTS, WebhookEvent

ROOTS: tuple[type[Struct], ...] = (
    DatasetAnswer,
    DatasetListAnswer,
    DeliveriesAnswer,
    ExtractionAnswer,
    ExtractionBody,
    ExtractionListAnswer,
    HealthView,
    LivenessView,
    Problem,
    ReadOptionsBody,
    ReadinessView,
    SecretsAnswer,
    StatusAnswer,
    TokenAnswer,
    UsageAnswer,
    WebhookEvent,
)
"""Every struct that a route reads or answers; the structs within follow."""


class SchemaDocument(JsonRenderPlugin):
    """Serve the document, which is built once."""

    def __init__(self) -> None:
        super().__init__(path="/openapi.json")
        self._rendered: bytes | None = None

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002 (the same for all)
        """Return the document as JSON."""
        if self._rendered is None:
            self._rendered = encode_json(complete(openapi_schema))
        return self._rendered


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """Replace the framework's component schemas by msgspec's, and remove null from query parameters."""
    completed = copy.deepcopy(document)
    _, components = msgspec.json.schema_components(ROOTS, ref_template="#/components/schemas/{name}")
    completed["components"]["schemas"] = components
    completed["webhooks"] = {event: {"post": _webhook(event)} for event in EVENTS.values()}
    for path in completed["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = _without_null(parameter["schema"])
    return completed


def _webhook(event: str) -> dict[str, Any]:
    """Describe the request that a webhook receiver gets, and the answer that is expected."""
    described = {
        "webhook-id": "The same in each attempt to send the same end.",
        "webhook-timestamp": "When this try was made, in seconds since 1970.",
        "webhook-signature": "`v1,` and base64 of HMAC-SHA256 of `id.timestamp.body`; with old secrets too.",
    }
    parameters = [
        {"name": name, "in": "header", "required": True, "description": description, "schema": {"type": "string"}}
        for name, description in described.items()
    ]
    return {
        "operationId": event.replace(".", "_"),
        "tags": ["webhooks"],
        "summary": f"An extraction is {event.partition('.')[2]}",
        "description": "Sent to the `callback_url` that the extraction was asked for with (standardwebhooks.com).",
        "parameters": parameters,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/WebhookEvent"}}},
        },
        "responses": {
            "2XX": {"description": "It has arrived."},
            "410": {"description": "It is not to be sent again."},
            "default": {"description": "It is sent again later, for three days."},
        },
    }


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Remove null from a parameter's schema: a URL cannot express it."""
    kept = {key: value for key, value in schema.items() if key != "oneOf"}
    for branch in schema.get("oneOf", ()):
        if branch != {"type": "null"}:
            kept |= branch
    if "enum" in kept:
        kept |= {"type": "string", "enum": [value for value in kept["enum"] if value is not None]}
    return kept
