"""DATA only: metrics that the Prometheus client adds to the service's own; documents, dashboards and tests read it too.

With several workers the garbage collector's numbers are their sum, and each process has its own `process_*` series.
"""

from __future__ import annotations

from service.telemetry.catalog_model import Label, Metric

_GENERATION = Label("generation", ("0", "1", "2"))
_WORKER = Label("worker")
"""Only with several workers: "supervisor", or "1" up to WORKERS."""

GC_METRICS: tuple[Metric, ...] = (
    Metric("python_gc_objects_collected_total", "counter", "", "Objects collected during gc.", (_GENERATION,)),
    Metric(
        "python_gc_objects_uncollectable_total",
        "counter",
        "",
        "Uncollectable objects found during GC.",
        (_GENERATION,),
    ),
    Metric(
        "python_gc_collections_total",
        "counter",
        "",
        "Number of times this generation was collected.",
        (_GENERATION,),
    ),
)
CLIENT_METRICS: tuple[Metric, ...] = (
    *GC_METRICS,
    Metric(
        "python_info",
        "gauge",
        "",
        "The interpreter: always 1.",
        tuple(Label(name) for name in ("version", "implementation", "major", "minor", "patchlevel")),
    ),
    Metric("process_cpu_seconds_total", "counter", "seconds", "Processor time spent.", (_WORKER,), across="each"),
    Metric("process_resident_memory_bytes", "gauge", "bytes", "Memory held.", (_WORKER,), across="each"),
    Metric("process_virtual_memory_bytes", "gauge", "bytes", "Memory mapped.", (_WORKER,), across="each"),
    Metric("process_start_time_seconds", "gauge", "seconds", "When it started.", (_WORKER,), across="each"),
    Metric("process_open_fds", "gauge", "descriptors", "Open file descriptors.", (_WORKER,), across="each"),
    Metric("process_max_fds", "gauge", "descriptors", "Most that may be open.", (_WORKER,), across="each"),
)
