"""Link an extraction to its trace, log lines and dashboard, by URL templates from the settings."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from msgspec import Struct

from service.features.model import Extraction

MARGIN = timedelta(minutes=1)
"""Time shown before and after the extraction's own."""


class Links(NamedTuple):
    """URLs of a trace, its log lines and a dashboard."""

    trace: str | None
    logs: str | None
    dashboard: str | None


class ObservabilityLinks(Struct, frozen=True):
    """Hold URL templates with `{trace_id}`, `{extraction_id}`, `{from}` and `{to}` (Unix milliseconds); None: no link.

    Other braces stay unchanged, because Grafana's URLs contain JSON.
    """

    trace: str | None = None
    logs: str | None = None
    dashboard: str | None = None

    def links(self, extraction: Extraction, now: datetime) -> Links:
        """Return the links of an extraction; for one that has not ended, up to `now`."""
        values = {
            "{trace_id}": extraction.trace_id,
            "{extraction_id}": extraction.id,
            "{from}": _milliseconds(extraction.created_at - MARGIN),
            "{to}": _milliseconds((extraction.finished_at or now) + MARGIN),
        }
        return Links(_filled(self.trace, values), _filled(self.logs, values), _filled(self.dashboard, values))


def _filled(template: str | None, values: dict[str, str]) -> str | None:
    if template is None:
        return None
    for name, value in values.items():
        template = template.replace(name, value)
    return template


def _milliseconds(moment: datetime) -> str:
    return str(round(moment.timestamp() * 1000))
