from __future__ import annotations

from datetime import UTC, datetime, timedelta

from service.api.observability_links import Links, ObservabilityLinks
from service.features.model import Extraction, ExtractionRequest

CREATED = datetime(2026, 1, 2, tzinfo=UTC)
MILLISECONDS = 1_767_312_000_000


def extraction(finished_at: datetime | None) -> Extraction:
    """An extraction of a minute past midnight."""
    return Extraction(
        id="e1",
        owner="ops",
        request=ExtractionRequest("events", "click rates"),
        status="queued" if finished_at is None else "completed",
        created_at=CREATED,
        finished_at=finished_at,
        trace_id="ab" * 16,
    )


def test_templates_are_filled() -> None:
    """Ids and a window with a minute's margin go into the templates, whose own braces stay."""
    observability_links = ObservabilityLinks(
        trace="http://jaeger/trace/{trace_id}",
        logs='http://grafana/explore?panes={"a":{"q":"{trace_id}"}}&x={extraction_id}',
        dashboard="http://grafana/d/overview?from={from}&to={to}",
    )
    assert observability_links.links(extraction(CREATED + timedelta(seconds=30)), CREATED + timedelta(days=1)) == (
        f"http://jaeger/trace/{'ab' * 16}",
        f'http://grafana/explore?panes={{"a":{{"q":"{"ab" * 16}"}}}}&x=e1',
        f"http://grafana/d/overview?from={MILLISECONDS - 60_000}&to={MILLISECONDS + 90_000}",
    )


def test_until_now_while_it_runs() -> None:
    """One that has not ended is shown until now."""
    links = ObservabilityLinks(dashboard="http://g/?to={to}").links(extraction(None), CREATED + timedelta(seconds=5))
    assert links == Links(None, None, f"http://g/?to={MILLISECONDS + 65_000}")


def test_no_template_is_no_link() -> None:
    """Without settings there are no such links."""
    assert ObservabilityLinks().links(extraction(None), CREATED) == (None, None, None)
