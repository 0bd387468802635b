"""Send structs as JSON with as little work as possible.

The framework's own response builds its headers one by one through a mapping, which takes longer than encoding.
"""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Response
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

_ENCODER = msgspec.json.Encoder()
_JSON = (b"content-type", b"application/json")


class Rendered(ASGIResponse):
    """A complete JSON answer."""

    def __init__(self, status: int, body: bytes, headers: dict[str, str]) -> None:  # pyright: ignore[reportMissingSuperCall] -- it would build what this does without
        self.status_code = status
        self.body = body
        self._own_headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 -- ASGI
        """Send it."""
        body = self.body
        headers = [_JSON, (b"content-length", b"%d" % len(body))]
        headers += [
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in self._own_headers.items()
        ]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})


class StructResponse(Response[Any]):
    """Extend the framework's response with a fast path."""

    def to_asgi_response(self, app: Any, request: Any, **options: Any) -> ASGIResponse:
        """Use the fast path for a struct without cookies, background work or encoders of its own."""
        plain = isinstance(self.content, msgspec.Struct) and self.media_type in {None, "application/json"}
        if not plain or self.background or self.cookies or options.get("cookies") or options.get("is_head_response"):
            return super().to_asgi_response(app, request, **options)  # pyright: ignore[reportUnknownMemberType] -- a generic of its own
        status = self.status_code or options.get("status_code") or 200
        return Rendered(status, _ENCODER.encode(self.content), {**(options.get("headers") or {}), **self.headers})
