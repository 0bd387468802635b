"""The tables of a run, as Markdown: what was measured, what each layer costs, and which targets that meets."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Literal

from loadtest.benchmarks.api.measure import Sample
from loadtest.benchmarks.api.variants import VARIANTS, Variant

PACKAGES = (
    "litestar", "uvicorn", "granian", "fastapi", "pydantic-ai-slim", "opentelemetry-sdk", "prometheus-client",
    "psycopg", "sqlalchemy", "redis", "hiredis",
)  # fmt: skip
LAYERS = {
    "reads-none": ("telemetry altogether (metrics, log line, 10 % traces)", "reads-10"),
    "ids-alone": ("metrics and access line", "no-traces"),
    "no-metrics": ("metrics", "reads-10"),
    "no-access": ("access line", "reads-10"),
    "no-traces": ("traces of 10 %", "reads-10"),
    "no-auth": ("authentication", "reads-10"),
    "no-limit": ("rate limit", "reads-10"),
}
"""The variant without a layer: the layer's name, and the variant that has it and is like it otherwise.

All are asked for nothing but status reads: a process that also ran extractions and took uploads has more in memory, and
everything in it costs more.
"""
BARE = {0.1: 2.5, 1.0: 4.5}
"""At most so many times what bare Litestar takes, by the share of requests that are sampled."""
SEED = 4.0
METRICS_AND_LINE_US = 40.0
TAIL = 5.0
READY_SECONDS = 3.0
RESIDENT_MIB = {"ours-10": 200.0, "apart": 150.0}
SCRAPE_MS = 10.0
DEAD_COLLECTOR = 1.1


AGAINST = {variant.name: variant.against for variant in VARIANTS}
Target = tuple[str, float | None, float, Literal["least", "most"]]
"""What is asked, what was measured, the bound, and on which side of it is right."""


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

    def times(self, variant: str, workload: str, against: str) -> float | None:
        """How many times as much as `against`, as the median over rounds that were measured one after the other."""
        ours, theirs = self.samples.get((variant, workload)), self.samples.get((against, workload))
        if not ours or not theirs:
            return None
        return median(here.cpu_us / there.cpu_us for here, there in zip(ours, theirs, strict=False))

    def gain(self, variant: str, workload: str) -> float | None:
        """How many times cheaper than the seed design at the same sampling."""
        return self.times(AGAINST[variant], workload, variant)

    def less(self, without: str) -> float | None:
        """Microseconds of CPU that a status read takes less than with the layer that this variant has not."""
        full, part = self.samples.get((LAYERS[without][1], "status")), self.samples.get((without, "status"))
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
    return (
        "variant", "CPU µs", "times bare Litestar", "times cheaper than the seed", "requests/s", "p50 ms", "p99 ms",
        "ready s", "RSS MiB",
    )  # fmt: skip


def _status_rows(results: Results) -> Iterable[Sequence[str]]:
    for variant in _chosen(results, "status"):
        samples = results.samples[variant.name, "status"]
        yield (
            variant.title,
            _number(results.cpu(variant.name)),
            _number(results.times(variant.name, "status", "litestar"), ".2f"),
            _number(results.gain(variant.name, "status"), ".1f"),
            _number(median(sample.rate for sample in samples)),
            _number(median(sample.p50_ms for sample in samples), ".1f"),
            _number(median(sample.p99_ms for sample in samples), ".1f"),
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
    for without, (layer, _) in LAYERS.items():
        yield layer, _number(results.less(without))


def _targets(results: Results) -> Iterable[Sequence[str]]:
    for name, value, bound, kind in (*_cost_targets(results), *_other_targets(results)):
        met = value is not None and (value >= bound if kind == "least" else value <= bound)
        yield f"{name} {bound:g}", _number(value, ".1f"), "met" if met else "-" if value is None else "not met"


def _cost_targets(results: Results) -> Iterable[Target]:
    for share, bound in BARE.items():
        times = results.times(f"reads-{share * 100:.0f}", "status", "litestar")
        yield f"status reads at {share:.0%} traces, times bare Litestar ≤", times, bound, "most"
    for share in BARE:
        gain = results.gain(f"ours-{share * 100:.0f}", "status")
        yield f"status reads, both at {share:.0%} traces, times cheaper than the seed design ≥", gain, SEED, "least"
    yield "metrics and access line, µs a request ≤", results.less("ids-alone"), METRICS_AND_LINE_US, "most"


def _other_targets(results: Results) -> Iterable[Target]:
    tail = median(sample.p99_ms / sample.p50_ms for sample in results.half) if results.half else None
    scrape = results.scrape[0] if results.scrape else None
    dead = results.times("no-collector", "status", "reads-100")
    yield "p99 at half of saturation, times p50 ≤", tail, TAIL, "most"
    for name, where in (("ours-10", "with a worker inside"), ("apart", "workers apart")):
        yield f"ready, {where}, s ≤", results.ready.get(name), READY_SECONDS, "most"
        yield f"RSS after warm-up, {where}, MiB ≤", results.resident.get(name), RESIDENT_MIB[name], "most"
    yield "the collector away, times what it costs there ≤", dead, DEAD_COLLECTOR, "most"
    yield "a scrape, ms ≤", scrape, SCRAPE_MS, "most"
