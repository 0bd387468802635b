"""Where clients find things: paths that answers and webhooks name alike."""

from __future__ import annotations

BASE = "/api/v1"


def dataset_path(dataset_id: str) -> str:
    """Where a dataset is found."""
    return f"{BASE}/datasets/{dataset_id}"


def extraction_path(extraction_id: str) -> str:
    """Where an extraction is found."""
    return f"{BASE}/extraction/{extraction_id}"


def deliveries_path(extraction_id: str) -> str:
    """Where it is found what became of telling its end."""
    return f"{extraction_path(extraction_id)}/deliveries"
