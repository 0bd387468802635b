"""Where else an extraction can be looked at: its trace, its log lines and a dashboard, by templates of addresses."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from msgspec import Struct

from service.features.model import Extraction

MARGIN = timedelta(minutes=1)
"""Shown before and after the extraction's own time."""


class Links(NamedTuple):
    """Addresses of a trace, its log lines and a dashboard."""

    trace: str | None
    logs: str | None
    dashboard: str | None


class ObservabilityLinks(Struct, frozen=True):
    """Templates with `{trace_id}`, `{extraction_id}`, `{from}` and `{to}` (milliseconds since 1970); None is no link.

    Other braces stay as they are: addresses of Grafana hold JSON.
    """

    trace: str | None = None
    logs: str | None = None
    dashboard: str | None = None

    def links(self, extraction: Extraction, now: datetime) -> Links:
        """The addresses for an extraction; one that has not ended is shown until `now`."""
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
