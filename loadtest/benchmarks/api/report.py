"""The tables of a run, as Markdown: what was measured, what each layer costs, and which targets that meets."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from statistics import median

from loadtest.benchmarks.api.measure import Sample
from loadtest.benchmarks.api.variants import VARIANTS, Variant

PACKAGES = (
    "litestar", "uvicorn", "granian", "fastapi", "pydantic-ai-slim", "opentelemetry-sdk", "prometheus-client",
    "psycopg", "sqlalchemy", "redis", "hiredis",
)  # fmt: skip
LAYERS = {
    "reads-none": "telemetry altogether (metrics, log line, 10 % traces)",
    "no-metrics": "metrics",
    "no-access": "access line",
    "no-traces": "traces of 10 %",
    "no-auth": "authentication",
    "no-limit": "rate limit",
}
TELEMETRY_US = 60.0
TAIL = 5.0
READY_SECONDS = 3.0
RESIDENT_MIB = 150.0
SCRAPE_MS = 10.0
DEAD_COLLECTOR = 1.1


@dataclass
class Results:
    """Everything that a run measured."""

    samples: dict[tuple[str, str], list[Sample]] = field(default_factory=dict[tuple[str, str], list[Sample]])
    """By variant and workload."""
    ready: dict[str, float] = field(default_factory=dict[str, float])
    resident: dict[str, float] = field(default_factory=dict[str, float])
    half: list[Sample] = field(default_factory=list[Sample])
    """At half the rate of saturation."""
    scrape: tuple[float, int] | None = None
    """Milliseconds and series."""

    def note(self, variant: str, workload: str, sample: Sample) -> None:
        """Add one round's sample."""
        self.samples.setdefault((variant, workload), []).append(sample)

    def cpu(self, variant: str, workload: str = "status") -> float | None:
        """Median microseconds of CPU a request."""
        samples = self.samples.get((variant, workload))
        return median(sample.cpu_us for sample in samples) if samples else None

    def gain(self, variant: str, workload: str, against: str = "seed") -> float | None:
        """How many times cheaper than `against`, as the median over rounds that were measured one after the other."""
        ours, theirs = self.samples.get((variant, workload)), self.samples.get((against, workload))
        if not ours or not theirs:
            return None
        return median(there.cpu_us / here.cpu_us for here, there in zip(ours, theirs, strict=False))

    def less(self, variant: str) -> float | None:
        """Microseconds of CPU that a status read takes less than it does of the service with 10 % traces.

        Both are asked for nothing else: a process that also ran extractions and took uploads has more in memory, and
        everything in it costs more.
        """
        full, part = self.samples.get(("reads-10", "status")), self.samples.get((variant, "status"))
        if not full or not part:
            return None
        return median(whole.cpu_us - rest.cpu_us for whole, rest in zip(full, part, strict=False))


def render(results: Results, command: str, rounds: int, seconds: float) -> str:
    """The whole report."""
    machine = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    setting = (
        f"`{command}`: {rounds} rounds of {seconds:g} s, interleaved; medians. One server process pinned to a core, "
        f"client, PostgreSQL, Redis, model and collector on the other; CPU is the server process' own.\n\n"
        f"{machine}; {versions}. Where time and memory go: [PROFILE.md](PROFILE.md)."
    )
    parts = [
        "# What a request costs",
        setting,
        "## Status reads\n\n" + _table(_status_head(), _status_rows(results)),
        "## Extractions and uploads\n\n" + _table(_work_head(), _work_rows(results)),
        "## What each layer costs\n\n" + _table(("without", "CPU µs less a request"), _layer_rows(results)),
        "## Targets\n\n" + _table(("target", "measured", ""), _targets(results)),
    ]
    return "\n\n".join(parts) + "\n"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float | None, form: str = ".0f") -> str:
    return "-" if value is None else format(value, form)


def _chosen(results: Results, workload: str) -> list[Variant]:
    return [variant for variant in VARIANTS if (variant.name, workload) in results.samples]


def _status_head() -> Sequence[str]:
    return "variant", "CPU µs", "requests/s", "p50 ms", "p99 ms", "times cheaper than the seed", "ready s", "RSS MiB"


def _status_rows(results: Results) -> Iterable[Sequence[str]]:
    for variant in _chosen(results, "status"):
        samples = results.samples[variant.name, "status"]
        yield (
            variant.title,
            _number(results.cpu(variant.name)),
            _number(median(sample.rate for sample in samples)),
            _number(median(sample.p50_ms for sample in samples), ".1f"),
            _number(median(sample.p99_ms for sample in samples), ".1f"),
            _number(results.gain(variant.name, "status"), ".1f"),
            _number(results.ready.get(variant.name), ".1f"),
            _number(results.resident.get(variant.name)),
        )


def _work_head() -> Sequence[str]:
    return "variant", "repeated: CPU µs", "cheaper", "new: CPU µs", "cheaper", "upload: CPU µs", "cheaper"


def _work_rows(results: Results) -> Iterable[Sequence[str]]:
    for variant in _chosen(results, "cached"):
        cells = [
            cell
            for workload in ("cached", "uncached", "upload")
            for cell in (
                _number(results.cpu(variant.name, workload)),
                _number(results.gain(variant.name, workload), ".1f"),
            )
        ]
        yield (variant.title, *cells)


def _layer_rows(results: Results) -> Iterable[Sequence[str]]:
    for name, layer in LAYERS.items():
        yield layer, _number(results.less(name))


def _targets(results: Results) -> Iterable[Sequence[str]]:
    tail = median(sample.p99_ms / sample.p50_ms for sample in results.half) if results.half else None
    scrape = results.scrape[0] if results.scrape else None
    dead = results.gain("ours-100", "status", against="no-collector")
    rows = (
        ("status reads at 10 % traces ≥ 6 times the seed design", results.gain("ours-10", "status"), 6.0, "least"),
        ("status reads at 100 % traces ≥ 4 times", results.gain("ours-100", "status"), 4.0, "least"),
        ("repeated extractions ≥ 10 times", results.gain("ours-10", "cached"), 10.0, "least"),
        ("telemetry ≤ 60 µs a request", results.less("reads-none"), TELEMETRY_US, "most"),
        ("p99 ≤ 5 times p50 at half of saturation", tail, TAIL, "most"),
        ("ready ≤ 3 s, with a worker inside", results.ready.get("ours-10"), READY_SECONDS, "most"),
        ("ready ≤ 3 s, workers apart", results.ready.get("apart"), READY_SECONDS, "most"),
        ("RSS ≤ 150 MiB after warm-up, with a worker inside", results.resident.get("ours-10"), RESIDENT_MIB, "most"),
        ("RSS ≤ 150 MiB after warm-up, workers apart", results.resident.get("apart"), RESIDENT_MIB, "most"),
        ("the collector away ≤ 1.1 times what it costs there", dead, DEAD_COLLECTOR, "most"),
        ("a scrape ≤ 10 ms", scrape, SCRAPE_MS, "most"),
    )
    for name, value, bound, kind in rows:
        met = value is not None and (value >= bound if kind == "least" else value <= bound)
        yield name, _number(value, ".1f"), "met" if met else "-" if value is None else "not met"
