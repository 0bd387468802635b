"""The composition root of the worker: the resources of the API, without the API."""

from __future__ import annotations

from typing import Any

from service.resources.runtime import Runtime, open_runtime
from service.settings import Settings, load_settings


def create_worker(settings: Settings | None = None, **overrides: Any) -> Runtime:
    """A worker's open resources, which run extractions while `running()` lasts; `overrides` are `open_runtime`'s."""
    return open_runtime(settings or load_settings(), role="worker", **overrides)
