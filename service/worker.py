"""The composition root of the worker: the parts of the API's process, without the API."""

from __future__ import annotations

from service.resources.overrides import NO_OVERRIDES, Overrides
from service.resources.runtime import Runtime, open_runtime
from service.settings import Settings, load_settings


def create_worker(settings: Settings | None = None, *, overrides: Overrides = NO_OVERRIDES) -> Runtime:
    """Compose a worker, which runs extractions while its `running()` block lasts.

    Raises what `open_runtime` raises, and SettingsError when it has to read the settings itself.
    """
    return open_runtime(settings or load_settings(), role="worker", overrides=overrides)
