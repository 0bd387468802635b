"""Build the API paths that answers and webhooks both name."""

from __future__ import annotations

BASE = "/api/v1"


def dataset_path(dataset_id: str) -> str:
    """Return the path of a dataset."""
    return f"{BASE}/datasets/{dataset_id}"


def extraction_path(extraction_id: str) -> str:
    """Return the path of an extraction."""
    return f"{BASE}/extraction/{extraction_id}"


def deliveries_path(extraction_id: str) -> str:
    """Return the path that lists an extraction's webhook deliveries."""
    return f"{extraction_path(extraction_id)}/deliveries"
