"""The engine's spans: what it did for whom, in numbers, and nothing of the data."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from opentelemetry.trace import Span, StatusCode, Tracer

from service.extractions.own_faults import is_own_fault


@contextmanager
def engine_span(tracer: Tracer, operation: str, *, system: str, **facts: int | str) -> Generator[Span]:
    """Surround one operation of the engine `system`.

    An error is recorded by its type alone, since its message may quote a cell. The span has failed only when the
    service is to blame, not by a file that cannot be read.
    """
    attributes = {f"feature_agent.{name}": value for name, value in facts.items()}
    with tracer.start_as_current_span(
        f"engine.{operation}",
        attributes={"db.system.name": system, "db.operation.name": operation, **attributes},
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield span
        except BaseException as error:
            if is_own_fault(error):
                span.set_status(StatusCode.ERROR)
            span.set_attribute("error.type", type(error).__qualname__)
            raise
