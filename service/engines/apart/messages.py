"""What the service and its reader process say to each other: MessagePack, each message behind its length."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import msgspec
from msgspec import Struct

from service.engines.limits import Limits
from service.features.model import Failure, MediaType, Profile

LENGTH_BYTES = 4
"""Of the number before each message, the most significant byte first."""
T = TypeVar("T")


class Setup(Struct, frozen=True):
    """The first message to a reader process."""

    limits: Limits
    scratch: str
    concurrency: int


class Ping(Struct, frozen=True, tag=True):
    """Open a sandbox and use it."""

    number: int
    """Each order has its own; its reply carries it."""
    seconds: float
    """Until the deadline of whoever asks."""


class Ingest(Struct, frozen=True, tag=True):
    """Read an upload, write it as typed Parquet, and profile it."""

    number: int
    seconds: float
    source: str
    media_type: MediaType
    target: str


class Export(Struct, frozen=True, tag=True):
    """Render a Parquet table."""

    number: int
    seconds: float
    source: str
    media_type: MediaType
    target: str


class Cancel(Struct, frozen=True, tag=True):
    """Nobody waits for that order any more."""

    number: int


Order = Ping | Ingest | Export | Cancel


class Done(Struct, frozen=True, tag=True):
    """The order was carried out."""

    number: int
    profile: Profile | None = None
    """Of an upload."""


class Failed(Struct, frozen=True, tag=True):
    """It was not, for a reason that the client may be told."""

    number: int
    failure: Failure


class Broken(Struct, frozen=True, tag=True):
    """It was not, for a reason that nobody expected."""

    number: int
    kind: str
    """The exception's class."""
    stack: str
    """Where it was raised; its message may quote a cell and stays behind."""


Reply = Done | Failed | Broken

_ENCODER = msgspec.msgpack.Encoder()


def packed(message: Setup | Order | Reply) -> bytes:
    """The message as it goes over the pipe."""
    body = _ENCODER.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


async def receive(pipe: asyncio.StreamReader, decoder: msgspec.msgpack.Decoder[T]) -> T | None:
    """The next message; None when the pipe's other end is closed, be it in the middle of one."""
    try:
        length = int.from_bytes(await pipe.readexactly(LENGTH_BYTES), "big")
        return decoder.decode(await pipe.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
