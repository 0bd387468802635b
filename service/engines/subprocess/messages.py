"""Messages between the service and a reader process: MessagePack, each message preceded by its length."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import msgspec
from msgspec import Struct

from service.engines.limits import Limits
from service.features.model import Failure, MediaType, Profile, TableForm

LENGTH_BYTES = 4
"""Of the number before each message, the most significant byte first."""
T = TypeVar("T")


class Setup(Struct, frozen=True):
    """Configure a reader process; its first message."""

    limits: Limits
    scratch: str


class Ping(Struct, frozen=True, tag=True):
    """Open a sandbox and use it."""

    seconds: float
    """Until the request's deadline."""


class Ingest(Struct, frozen=True, tag=True):
    """Read an upload, write it as typed Parquet, and profile it."""

    seconds: float
    source: str
    media_type: MediaType
    target: str


class Export(Struct, frozen=True, tag=True):
    """Render a Parquet table."""

    seconds: float
    source: str
    form: TableForm
    target: str


Request = Ping | Ingest | Export


class Succeeded(Struct, frozen=True, tag=True):
    """Report that the request was carried out."""

    profile: Profile | None = None
    """Of an upload."""


class Failed(Struct, frozen=True, tag=True):
    """Report an error of the domain, whose message is written for the client."""

    failure: Failure


class Crashed(Struct, frozen=True, tag=True):
    """Report an exception that is a bug."""

    kind: str
    """The exception's class."""
    stack: str
    """Where it was raised, without its message, which may quote a cell."""


Reply = Succeeded | Failed | Crashed

SETUP: msgspec.msgpack.Decoder[Setup] = msgspec.msgpack.Decoder(Setup)
REQUEST: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
REPLY: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)
_ENCODER = msgspec.msgpack.Encoder()


def encode(message: Setup | Request | Reply) -> bytes:
    """Encode a message for the pipe."""
    body = _ENCODER.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


async def receive(pipe: asyncio.StreamReader, decoder: msgspec.msgpack.Decoder[T]) -> T | None:
    """Wait for the next message; None when the pipe is closed before the message is complete."""
    try:
        length = int.from_bytes(await pipe.readexactly(LENGTH_BYTES), "big")
        return decoder.decode(await pipe.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
