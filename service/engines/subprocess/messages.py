"""Messages between the service and an engine process: MessagePack, each message preceded by its length."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import msgspec
from msgspec import Struct

from service.engines.limits import Limits
from service.features.model import (
    NO_OVERRIDES,
    Failure,
    FeatureEvidence,
    FeaturePlan,
    MediaType,
    Profile,
    ReadOptions,
    TableForm,
)
from service.features.ports import RehearsedFeature
from service.features.tables import Tables

LENGTH_BYTES = 4
"""Of the number before each message, the most significant byte first."""
MAX_REPLY_BYTES = 256 * 2**20
"""A profile of 10 000 columns takes some ten MiB; what is far longer comes from a process that has been taken over."""
T = TypeVar("T")


class Setup(Struct, frozen=True):
    """Configure an engine process; its first message."""

    system: str
    """The engine's name."""
    limits: Limits
    scratch: str


class Ping(Struct, frozen=True, tag=True):
    """Open a sandbox and use it."""

    seconds: float
    """Until the request's deadline; likewise below."""


class Ingest(Struct, frozen=True, tag=True):
    """Read an upload, write it as typed Parquet, and profile it."""

    seconds: float
    source: str
    media_type: MediaType
    target: str
    overrides: ReadOptions = NO_OVERRIDES


class Export(Struct, frozen=True, tag=True):
    """Render a Parquet table."""

    seconds: float
    source: str
    form: TableForm
    target: str


class Rehearse(Struct, frozen=True, tag=True):
    """Try a plan on a sample of its data; each dataset's `artifact_key` is the path of its file; likewise below."""

    seconds: float
    tables: Tables
    plan: FeaturePlan


class Compute(Struct, frozen=True, tag=True):
    """Compute a plan's table, and hold it until `Release`."""

    seconds: float
    tables: Tables
    plan: FeaturePlan


class Measure(Struct, frozen=True, tag=True):
    """Measure the features of the table that is held."""

    seconds: float
    target: str | None


class Publish(Struct, frozen=True, tag=True):
    """Write the named features of the table that is held as Parquet."""

    seconds: float
    names: tuple[str, ...]
    target: str


class Release(Struct, frozen=True, tag=True):
    """Drop the table that is held."""

    seconds: float


Request = Ping | Ingest | Export | Rehearse | Compute | Measure | Publish | Release


class Progress(Struct, frozen=True, tag=True):
    """Report the share of a request that is done, 0 to 1; the request's reply follows."""

    share: float


class Done(Struct, frozen=True, tag=True):
    """Report that the request was carried out."""


class Ingested(Struct, frozen=True, tag=True):
    """Give the profile of an upload."""

    profile: Profile


class Rehearsed(Struct, frozen=True, tag=True):
    """Give what the features came to on a sample."""

    features: tuple[RehearsedFeature, ...]


class Computed(Struct, frozen=True, tag=True):
    """Report that a table was computed and is held."""

    row_count: int
    sql: str


class Measured(Struct, frozen=True, tag=True):
    """Give the evidence of each feature, in the plan's order."""

    evidence: tuple[FeatureEvidence, ...]


class Failed(Struct, frozen=True, tag=True):
    """Report an error of the domain, whose message is written for the client."""

    failure: Failure


class Crashed(Struct, frozen=True, tag=True):
    """Report an exception that is a bug."""

    kind: str
    """The exception's class."""
    stack: str
    """Where it was raised, without its message, which may quote a cell."""


Reply = Done | Ingested | Rehearsed | Computed | Measured | Failed | Crashed

SETUP: msgspec.msgpack.Decoder[Setup] = msgspec.msgpack.Decoder(Setup)
REQUEST: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
REPLY: msgspec.msgpack.Decoder[Reply | Progress] = msgspec.msgpack.Decoder(Reply | Progress)
_ENCODER = msgspec.msgpack.Encoder()


def encode(message: Setup | Request | Reply | Progress) -> bytes:
    """Encode a message for the pipe."""
    body = _ENCODER.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


async def receive(pipe: asyncio.StreamReader, decoder: msgspec.msgpack.Decoder[T], max_bytes: int = 2**32) -> T | None:
    """Wait for the next message; None when the pipe is closed before the message is complete.

    Raises msgspec.DecodeError for a message that is none of the expected ones, or longer than `max_bytes`.
    """
    try:
        length = int.from_bytes(await pipe.readexactly(LENGTH_BYTES), "big")
        if length > max_bytes:
            raise msgspec.DecodeError(f"a message of {length} bytes")
        return decoder.decode(await pipe.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
