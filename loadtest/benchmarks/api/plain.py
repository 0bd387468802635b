"""The floor: the answer to a status read as constant bytes, from uvicorn alone and from an empty Litestar."""

from __future__ import annotations

import os
import sys
from typing import Any

import uvicorn
from litestar import Litestar, get
from msgspec import Struct

_BODY = b'{"status":"success","data":{"extraction_id":"x","status":"completed","progress":100}}'
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(_BODY)).encode())]


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application that has nothing to find out."""
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": message["type"] + ".complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _BODY})


class State(Struct):
    """What the route answers."""

    extraction_id: str
    status: str = "completed"
    progress: int = 100


@get("/api/v1/extraction/{extraction_id:str}/status")
async def status(extraction_id: str) -> State:
    """A constant state."""
    return State(extraction_id)


@get("/health")
async def health() -> State:
    """Alive."""
    return State("")


def bare() -> Litestar:
    """Litestar as it comes, without documentation."""
    return Litestar([status, health], openapi_config=None, logging_config=None)


if __name__ == "__main__":
    app = {"uvicorn": lambda: hello, "litestar": bare}[sys.argv[1]]()
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), access_log=False, log_config=None)
