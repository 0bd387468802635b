"""Show what a principal may still keep, in header fields named after those of the rate limit."""

from __future__ import annotations

from litestar.datastructures import ResponseHeader

from service.features.model import StorageLimits, StorageUse

_FIELDS = {
    "Quota-Datasets-Limit": "Datasets that you may keep; absent without a limit.",
    "Quota-Datasets-Remaining": "Datasets that you may keep beside those that you have.",
    "Quota-Stored-Bytes-Limit": "Bytes that your datasets and feature tables may take; absent without a limit.",
    "Quota-Stored-Bytes-Remaining": "Bytes that they may take beside those that they do.",
}
QUOTA_FIELDS = tuple(_FIELDS)
QUOTA_HEADERS = tuple(
    ResponseHeader(name=name, value="", documentation_only=True, description=description)
    for name, description in _FIELDS.items()
)


def quota_headers(used: StorageUse, limits: StorageLimits) -> dict[str, str]:
    """Return the fields of those quotas that are limited."""
    pairs = ((limits.datasets, used.datasets), (limits.stored_bytes, used.stored_bytes))
    values = [value for limit, use in pairs for value in (limit, max(0, limit - use))]
    limited = [bool(limit) for limit, _ in pairs for _ in range(2)]
    return {name: str(value) for name, value, shown in zip(QUOTA_FIELDS, values, limited, strict=True) if shown}
