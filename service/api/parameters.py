"""Define path and query parameters and header fields that several routes share."""

from __future__ import annotations

from typing import Annotated

from litestar.datastructures import ResponseHeader
from litestar.params import HeaderParameter, PathParameter, QueryParameter

from service.features.datasets import ID_PATTERN, MAX_ID_LENGTH

DatasetIdPath = Annotated[
    str, PathParameter(min_length=1, max_length=MAX_ID_LENGTH, pattern=ID_PATTERN, description="The dataset's id.")
]
ExtractionIdPath = Annotated[
    str, PathParameter(min_length=1, max_length=MAX_ID_LENGTH, pattern=ID_PATTERN, description="The extraction's id.")
]
Limit = Annotated[int, QueryParameter(ge=1, le=100, description="Most items of a page.")]
Cursor = Annotated[
    str | None,
    QueryParameter(
        min_length=1,
        max_length=1024,
        pattern=r"^[A-Za-z0-9._~=-]+$",
        description="`next_cursor` of the page before.",
    ),
]
DatasetIdQuery = Annotated[
    str | None,
    QueryParameter(min_length=1, max_length=MAX_ID_LENGTH, pattern=ID_PATTERN, description="A dataset's id."),
]
Replace = Annotated[
    bool,
    QueryParameter(description="Make the upload the next version of the dataset that has the id, if there is one."),
]
Zone = Annotated[
    str | None,
    QueryParameter(
        min_length=1,
        max_length=64,
        description="IANA time zone of local times in the file, such as `Europe/Berlin`; without it they are UTC.",
    ),
]

CacheControl = Annotated[
    str | None,
    HeaderParameter(
        name="Cache-Control", description="`no-cache` asks for a new plan instead of one made for an equal request."
    ),
]

Prefer = Annotated[
    str | None,
    HeaderParameter(
        name="Prefer",
        description="`respond-async` answers 202 at once; `wait=N` waits at most N seconds for the result (RFC 7240).",
    ),
]
IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[!-~]+$",
        description=(
            "A new random text for each new request: visible ASCII characters. Sent again with the same body within "
            "24 hours, it gets the answer of the first time, once there is a final one; a failed extraction's too, so "
            "take a new key to have it run anew."
        ),
    ),
]
LastEventId = Annotated[
    str | None,
    HeaderParameter(
        name="Last-Event-ID", description="Id of the last event that was read; those up to it are left out."
    ),
]


def wants_fresh(cache_control: str | None) -> bool:
    """Check for a directive that forbids a stored answer (RFC 9111 §5.2.1); unknown ones are ignored."""
    directives = {part.partition("=")[0].strip().lower() for part in (cache_control or "").split(",")}
    return not directives.isdisjoint({"no-cache", "no-store"})


LOCATION = ResponseHeader(name="Location", value="", documentation_only=True, description="The path of what was made.")
PREFERENCE_APPLIED = ResponseHeader(
    name="Preference-Applied", value="", documentation_only=True, description="What of `Prefer` was heeded."
)
REPLAYED = ResponseHeader(
    name="Idempotency-Replayed",
    value="",
    documentation_only=True,
    description="`true` when the `Idempotency-Key` had come before; the body is that of the first answer.",
)
