"""Read uploads as streams: find the format, and pass the bytes on as they arrive."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import PurePath
from typing import get_args

from msgspec import Struct
from msgspec.structs import replace
from multipart import (  # pyright: ignore[reportMissingTypeStubs] (has annotations, no marker)
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
)

from service.api.decoding import ApiRequest, decode_strictly
from service.api.errors import MalformedRequest, MediaTypeUnsupported
from service.api.read_options import ReadOptionsBody
from service.features.errors import InvalidRequest, PayloadTooLarge
from service.features.model import NO_OVERRIDES, FieldError, MediaType, ReadOptions
from service.features.overrides import patched

MEDIA_TYPES: tuple[MediaType, ...] = get_args(MediaType)
EXTENSIONS: dict[str, MediaType] = {
    ".csv": "text/csv",
    ".parquet": "application/vnd.apache.parquet",
    ".pq": "application/vnd.apache.parquet",
    ".ndjson": "application/x-ndjson",
    ".jsonl": "application/x-ndjson",
}
MULTIPART_OVERHEAD = 64 * 1024
"""Bytes of boundaries, part headers and other form fields that a form may add to its file."""

OPTIONS_PART = "options"
"""Name of the form's part that says how its file is read; it comes before the file."""
MAX_OPTIONS_BYTES = 1024 * 1024

Event = MultipartSegment | bytes | None
"""The start of a part, some of its bytes, or its end."""


class Upload(Struct, frozen=True):
    """A file that is being uploaded."""

    media_type: MediaType
    chunks: AsyncIterator[bytes]
    options: bytes = b""
    """What came before it in its form's part `options`."""


async def open_upload(request: ApiRequest, limit: int) -> Upload:
    """Open the file of a request, which is its body or the first file of a form; at most `limit` bytes.

    Raises MediaTypeUnsupported, MalformedRequest, and PayloadTooLarge if the announced length is over the limit. The
    chunks raise MalformedRequest if the body ends too early. Their reader must enforce the limit for the file itself;
    the rest of a form is limited here.
    """
    media_type, parameters = request.content_type
    if media_type == "multipart/form-data":
        _require_length(request, limit + MULTIPART_OVERHEAD)
        return await _open_form(_events(request, parameters.get("boundary", ""), limit + MULTIPART_OVERHEAD))
    _require_length(request, limit)
    if (known := _known(media_type)) is None:
        raise MediaTypeUnsupported(f"Send the dataset as {', '.join(MEDIA_TYPES)}, or as multipart/form-data.")
    return Upload(known, request.stream())


def read_options(upload: Upload, zone: str | None) -> ReadOptions:
    """Return how an upload is to be read: by its form's options, and the zone of the query.

    Raises MalformedRequest, and InvalidRequest with every fault.
    """
    body = (
        decode_strictly(upload.options, ReadOptionsBody, "The form's options") if upload.options else ReadOptionsBody()
    )
    options = patched(NO_OVERRIDES, body.patch())
    if zone is None:
        return options
    if options.zone is not None:
        fault = FieldError("zone", "is given twice, in the query and in the form's options")
        raise InvalidRequest("The request's parameters are invalid.", errors=[fault])
    return replace(options, zone=zone)


def too_large(limit: int) -> PayloadTooLarge:
    """Build the error for an upload over `limit` bytes."""
    return PayloadTooLarge(f"An upload may have at most {limit} bytes.")


def _require_length(request: ApiRequest, limit: int) -> None:
    if (request.content_length or 0) > limit:
        raise too_large(limit)


def _known(media_type: str | None) -> MediaType | None:
    return next((known for known in MEDIA_TYPES if known == media_type), None)


async def _open_form(events: AsyncGenerator[Event]) -> Upload:
    options = b""
    async for event in events:
        if not isinstance(event, MultipartSegment):
            continue
        if event.name == OPTIONS_PART:
            options = await _options(events)
        elif event.filename is not None or _known(event.content_type):
            return Upload(_part_media_type(event), _file(events), options)
    raise MalformedRequest("The form has no file.")


async def _options(events: AsyncGenerator[Event]) -> bytes:
    """Return the current part's bytes."""
    held = bytearray()
    async for event in events:
        if not isinstance(event, bytes):
            break
        held += event
        if len(held) > MAX_OPTIONS_BYTES:
            raise PayloadTooLarge(f"The form's options may have at most {MAX_OPTIONS_BYTES} bytes.")
    return bytes(held)


def _part_media_type(part: MultipartSegment) -> MediaType:
    """Return the part's media type, or its file name's: browsers do not know Parquet, and call CSV a spreadsheet."""
    extension = PurePath(part.filename or "").suffix.lower()
    if media_type := _known(part.content_type) or EXTENSIONS.get(extension):
        return media_type
    raise MediaTypeUnsupported(
        f"Give the form's file a type of {', '.join(MEDIA_TYPES)}, or a name ending in {', '.join(EXTENSIONS)}."
    )


async def _file(events: AsyncGenerator[Event]) -> AsyncGenerator[bytes]:
    """Yield the current part's bytes, then read to the form's end, so that a truncated form is an error.

    Raises InvalidRequest for options that come too late to be heeded.
    """
    ended = False
    async for event in events:
        ended = ended or event is None
        if isinstance(event, MultipartSegment) and event.name == OPTIONS_PART:
            fault = FieldError(OPTIONS_PART, "must come before the file")
            raise InvalidRequest("The form's parts are in the wrong order.", errors=[fault])
        if isinstance(event, bytes) and not ended:
            yield event


async def _events(request: ApiRequest, boundary: str, limit: int) -> AsyncGenerator[Event]:
    received = 0
    try:
        parser = PushMultipartParser(boundary, max_segment_count=16)
        async for chunk in request.stream():
            if (received := received + len(chunk)) > limit:
                raise too_large(limit)
            for event in parser.parse(chunk):
                yield event
    except MultipartError as error:
        raise MalformedRequest("The body is not a well-formed multipart form.") from error
