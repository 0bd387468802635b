"""The shipped tail sampling over spans of a real service, for machines without a Jaeger: which traces it keeps.

It judges as the processor does with `sampling_strategy: span-ingest`: what arrives is judged by itself, and a trace is
kept with the first span that a policy is for. A policy of a kind that is not known here raises.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

Rule = Callable[[ReadableSpan], bool]
BY_ID = re.compile(r"ParseInt\(Substring\(span\.trace_id\.string, (\d+), (\d+)\), 16\) < (\d+)")
_MILLISECOND = 10**6


class TailSampler(SpanExporter):
    """Takes the service's spans as an exporter, and says of each trace whether it is kept."""

    def __init__(self, configuration: Mapping[str, Any]) -> None:
        sampling = configuration["processors"]["tail_sampling"]
        assert sampling["sampling_strategy"] == "span-ingest"
        self._rules = {policy["name"]: rule(policy) for policy in sampling["policies"]}
        self._lock = threading.Lock()
        self.seen: dict[str, list[ReadableSpan]] = {}
        """All traces, with their spans."""
        self.kept: dict[str, set[str]] = {}
        """Traces that are kept, with the policies that speak for them."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Judge what arrives."""
        with self._lock:
            for span in spans:
                assert span.context is not None
                trace_id = f"{span.context.trace_id:032x}"
                self.seen.setdefault(trace_id, []).append(span)
                for name in [name for name, holds in self._rules.items() if holds(span)]:
                    self.kept.setdefault(trace_id, set()).add(name)
        return SpanExportResult.SUCCESS


def rule(policy: Mapping[str, Any]) -> Rule:
    """What a policy asks of a span."""
    kind = policy["type"]
    given = policy[kind]
    match kind:
        case "status_code":
            return lambda span: span.status.status_code.name in given["status_codes"]
        case "latency":
            return lambda span: (span.end_time or 0) - (span.start_time or 0) >= given["threshold_ms"] * _MILLISECOND
        case "boolean_attribute":
            return lambda span: (span.attributes or {}).get(given["key"]) is given["value"]
        case "string_attribute":
            assert given["enabled_regex_matching"]
            return lambda span: _matches(given["values"], (span.attributes or {}).get(given["key"]))
        case "ottl_condition":
            [condition] = given["span"]
            holds = kept_by_id(condition)
            return lambda span: span.context is not None and holds(span.context.trace_id)
        case _:
            raise ValueError(f"no such policy here: {kind}")


def _matches(patterns: Sequence[str], value: object) -> bool:
    return isinstance(value, str) and any(re.search(pattern, value) for pattern in patterns)


def kept_by_id(condition: str) -> Callable[[int], bool]:
    """What a condition on a span's trace id says of an id."""
    found = BY_ID.fullmatch(condition)
    assert found, condition
    start, length, bound = map(int, found.groups())
    return lambda trace_id: int(f"{trace_id:032x}"[start : start + length], 16) < bound
