"""Describe a served request by OpenTelemetry's semantic conventions for HTTP servers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.telemetry.catalog import METHODS, OTHER_METHOD
from service.telemetry.redaction import brief


def request_attributes(scope: Mapping[str, Any], method: str, path: str) -> dict[str, str | int]:
    """Return the attributes of the request's span: no query string, no header but the user agent, no secrets.

    `method` and `path` are those of the request, because frameworks change the scope's.
    """
    attributes: dict[str, str | int] = {
        "http.request.method": method if method in METHODS else OTHER_METHOD,
        "url.scheme": scope.get("scheme", "http"),
        "url.path": brief(path),
        "network.protocol.version": scope.get("http_version", "1.1"),
    }
    if method not in METHODS:
        attributes["http.request.method_original"] = brief(method)
    for side in ("server", "client"):
        address = scope.get(side)
        if address:
            attributes[f"{side}.address"] = address[0]
            if address[1]:  # a Unix socket has no port
                attributes[f"{side}.port"] = address[1]
    for name, value in scope["headers"]:
        if name == b"user-agent" and value:
            attributes["user_agent.original"] = brief(value.decode("latin-1"))
            break
    return attributes
