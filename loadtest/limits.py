"""Settings of a service under load: one principal may send all that a load test sends."""

from __future__ import annotations

UNLIMITED = {
    "RATE_LIMIT_PER_MINUTE": "0",
    "MAX_UPLOADS_PER_PRINCIPAL": "0",
    "MAX_DOWNLOADS_PER_PRINCIPAL": "0",
    "MAX_STREAMS_PER_PRINCIPAL": "0",
    "MAX_WAITING_PER_PRINCIPAL": "0",
}
