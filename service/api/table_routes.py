"""`GET /extraction/{id}/features`: the feature table as a file, streamed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Annotated, Literal

from litestar import get
from litestar.openapi.spec import OpenAPIFormat, OpenAPIMediaType, OpenAPIResponse, OpenAPIType, Operation, Schema
from litestar.params import QueryParameter
from litestar.response import Stream

from service.api.decoding import ApiRequest
from service.api.errors import NotAcceptable
from service.api.guards import reads_extractions, takes
from service.api.parameters import ExtractionIdPath
from service.api.problems import PROTECTED, documented
from service.api.services import ApiServices, Services
from service.api.streams import begun
from service.features.errors import ExtractionNotReady, InvalidRequest
from service.features.model import SPREADSHEET_CSV, Extraction, FieldError, MediaType, TableForm

Format = Literal["parquet", "csv", "ndjson"]
FORMATS: dict[Format, MediaType] = {
    "parquet": "application/vnd.apache.parquet",
    "csv": "text/csv",
    "ndjson": "application/x-ndjson",
}
"""The first is the default."""

CHUNK_BYTES = 256 * 1024


@dataclass
class TableOperation(Operation):
    """Document the table's three formats; the framework has one media type for a route."""

    def __post_init__(self) -> None:
        binary = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)
        content = {media_type: OpenAPIMediaType(schema=binary) for media_type in FORMATS.values()}
        self.responses = dict(self.responses or {})
        self.responses["200"] = OpenAPIResponse(description="The feature table.", content=content)


@get(
    "/extraction/{extraction_id:str}/features",
    operation_id="download_features",
    operation_class=TableOperation,
    tags=["extractions"],
    summary="Download the feature table",
    opt=reads_extractions | takes("download"),
    responses=documented(
        *PROTECTED,
        "extraction_not_found",
        "not_acceptable",
        "extraction_not_ready",
        "request_invalid",
        "too_many_at_once",
    ),
)
async def download_features(
    request: ApiRequest,
    services: Services,
    extraction_id: ExtractionIdPath,
    format: Annotated[Format | None, QueryParameter(description="Wins over the Accept header.")] = None,  # noqa: A002 (its name on the wire, also in faults)
    safe: Annotated[
        Literal["spreadsheet"] | None,
        QueryParameter(
            description=(
                "For CSV that people open in a spreadsheet: a text, or a column's name, that begins as a formula does "
                "(`=`, `+`, `-`, `@`, their full-width forms, tab, carriage return or line feed) is preceded by an "
                "apostrophe. Numbers stay as they are. 422 with any other format."
            )
        ),
    ] = None,
) -> Stream:
    """Parquet, CSV or NDJSON by `?format=` or the `Accept` header; Parquet when neither says.

    Every cell is exact; with `?safe=spreadsheet`, no text of a CSV file is run as a formula where it is opened.
    """
    chosen = format or _negotiated(request)
    form = _form(chosen, spreadsheet=safe is not None)
    async with services.store.begin() as work:
        extraction = await work.extractions.get(request.user.id, extraction_id)
    chunks = await begun(_table(services, _artifact(extraction), form))
    headers = {"Content-Disposition": f'attachment; filename="{extraction.id}.{chosen}"'}
    return Stream(chunks, media_type=FORMATS[chosen], headers=headers)


def _negotiated(request: ApiRequest) -> Format:
    """Return the format that the Accept header prefers. Raises NotAcceptable."""
    best = request.accept.best_match(list(FORMATS.values()))
    for form, media_type in FORMATS.items():
        if media_type == best:
            return form
    raise NotAcceptable(f"The feature table comes as {', '.join(FORMATS.values())}.")


def _form(chosen: Format, *, spreadsheet: bool) -> TableForm:
    """Return how the table is rendered. Raises InvalidRequest for a format that no spreadsheet runs formulas of."""
    if not spreadsheet:
        return FORMATS[chosen]
    if chosen != "csv":
        fault = FieldError("safe", f"is for CSV, and this request is for {chosen}: add format=csv, or leave it out")
        raise InvalidRequest("The request's parameters are invalid.", errors=[fault])
    return SPREADSHEET_CSV


def _artifact(extraction: Extraction) -> str:
    """Return the key of the published table. Raises ExtractionNotReady."""
    if extraction.result is not None:
        return extraction.result.artifact_key
    waiting = extraction.status in {"queued", "processing"}
    raise ExtractionNotReady(
        f"The extraction is {extraction.status}; only a completed one has a feature table.",
        retry_after=2 if waiting else None,
    )


async def _table(services: ApiServices, key: str, form: TableForm) -> AsyncGenerator[bytes]:
    """Yield the table's bytes; a rendered file is removed at the end."""
    if form == "application/vnd.apache.parquet":
        async for chunk in services.artifacts.stream(key):
            yield bytes(chunk)
        return
    path = await services.reader.export(key, form)
    try:
        with await asyncio.to_thread(path.open, "rb") as file:
            while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                yield chunk
    finally:
        await asyncio.to_thread(path.unlink, missing_ok=True)
