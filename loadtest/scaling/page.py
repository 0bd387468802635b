"""The pages of the autoscaler's proof: the verdict on each target, the curve, and the path of replicas."""

from __future__ import annotations

from collections.abc import Sequence

from loadtest.report.document import (
    Bound,
    Cell,
    Column,
    Document,
    LineChart,
    Section,
    Series,
    Table,
    Text,
)
from loadtest.report.formats import clock, number
from loadtest.report.gates import gates
from loadtest.scaling.curve import Curve, Step
from loadtest.scaling.live import Happening
from loadtest.scaling.path import Moment
from loadtest.scaling.proof import Proof
from loadtest.scaling.targets import Target
from loadtest.scaling.worker_target import WorkerCurve

WORDS = {
    "pass": "Every target of the autoscalers holds.",
    "fail": "Not every target of the autoscalers holds.",
    "not_measured": "The machine did not allow a measurement.",
}


def document(proof: Proof) -> Document:
    """Build the page of a proof on one machine."""
    flags = proof.flags
    seconds = proof.ended - proof.began
    return Document(
        "Proof of the autoscalers' targets",
        proof.verdict,
        (
            Section("Targets", (target_table(proof.targets),)),
            Section("Gates", (gates(proof.checks),)),
            Section("One pod within its limits", (*curve_charts(proof.curve), curve_table(proof.curve))),
            Section("One worker within its limits", (worker_table([proof.worker_curve, *proof.larger]),)),
            Section("Replicas", (*path_charts(proof.seen, proof.predicted), happenings_table(proof.happenings))),
            Section("How", tuple(Text(words) for words in _how(proof))),
        ),
        WORDS[proof.verdict],
        (
            ("Date", proof.date),
            ("Machine", proof.machine),
            ("Took", f"{seconds / 60:.0f} min"),
            ("Requests of the tide", number(proof.requests)),
            ("Failed", number(proof.failed_requests)),
            ("Peak", f"{proof.peak:.0f} requests/s"),
            ("Speed", f"{flags.speed:g} times a cluster's"),
        ),
    )


def _how(proof: Proof) -> tuple[str, str, str]:
    """Say how it was measured, in paragraphs that are shorter than what a page cuts."""
    resources, spec = proof.deployed.resources, proof.deployed.spec()
    pod = (
        f"A pod is a process of the service in a cgroup with {resources.limit_cpu_m}m of CPU and "
        f"{resources.limit_memory // 2**20} MiB, with the settings of k8s/base. Its curve and the planned traffic give "
        f"the predicted path."
    )
    real = (
        f"Then {spec.minimum} to {spec.maximum} such processes behind HAProxy (no retries) are started and drained as "
        f"the model of the HorizontalPodAutoscaler decides from what their cgroups and metrics say, every "
        f"{proof.flags.sync:g} s, while clients arrive as planned whatever the service does."
    )
    speed = (
        f"Windows and periods of the autoscaler pass {proof.flags.speed:g} times as fast as in a cluster; starting and "
        f"draining take their own time."
    )
    return pod, real, speed


def target_table(targets: Sequence[Target]) -> Table:
    """Show the verdict on each target."""
    rows = tuple(
        (
            Cell(one.metric, code=True),
            one.target,
            Cell("valid" if one.valid else "invalid", outcome="pass" if one.valid else "fail"),
            one.right,
            one.sentence,
        )
        for one in targets
    )
    columns = (Column("Metric"), Column("Target"), Column("Verdict"), Column("Right is"), Column("Why", wide=True))
    return Table("What the manifests ask the autoscalers to keep", columns, rows)


def curve_table(curve: Curve) -> Table:
    """Show the steps of the staircase."""
    heads = ("Requests/s", "CPU, cores", "CPU, ms each", "p50, ms", "p95, ms", "p99, ms", "Throttled", "Loop lag, ms")
    columns = (*(Column(head, numeric=True) for head in (*heads, "Memory, MiB", "In flight")), Column("Objectives"))
    rows = tuple(_row(step) for step in curve.steps)
    note = (
        f"Idle: {curve.idle_cpu_cores:.3f} cores and {curve.idle_memory_mib:.0f} MiB before, "
        f"{curve.rested_memory_mib:.0f} MiB after all load. Ready "
        f"{curve.ready_seconds:.1f} s after its start. Latencies are those of reads."
    )
    return Table("A staircase of load on one pod", columns, rows, note=note)


def _row(step: Step) -> tuple[str | Cell, ...]:
    figures = (
        f"{step.requests_per_second:.0f}",
        f"{step.cpu_cores:.3f}",
        f"{step.cpu_ms_per_request:.2f}",
        f"{step.p50_ms:.0f}",
        f"{step.p95_ms:.0f}",
        f"{step.p99_ms:.0f}",
        f"{100 * step.throttled_share:.0f} %",
        f"{step.loop_lag_ms:.0f}",
        f"{step.memory_mib:.0f}",
        f"{step.in_flight:.1f}",
    )
    return (*figures, Cell("held" if step.good else "missed", outcome="pass" if step.good else "fail"))


def curve_charts(curve: Curve) -> tuple[LineChart, ...]:
    """Draw cost and latency over the rate."""
    rates = tuple(f"{step.requests_per_second:.0f}/s" for step in curve.steps)
    places = range(len(curve.steps))

    def line(name: str, values: Sequence[float]) -> Series:
        return Series(name, tuple((float(place), value) for place, value in zip(places, values, strict=True)))

    cores = (line("CPU", [step.cpu_cores for step in curve.steps]),)
    latency = (
        line("p50", [step.p50_ms for step in curve.steps]),
        line("p95", [step.p95_ms for step in curve.steps]),
        line("p99", [step.p99_ms for step in curve.steps]),
    )
    request, limit = curve.request_cpu_m / 1000, curve.limit_cpu_m / 1000
    bounds = (Bound(request, f"request {request:g}"), Bound(limit, f"limit {limit:g}"))
    return (
        LineChart(title="CPU of a pod", series=cores, y_unit="cores", categories=rates, bounds=bounds),
        LineChart(
            title="Latency of reads",
            series=latency,
            y_unit="ms",
            categories=rates,
            bounds=(Bound(250.0, "objective 250 ms"),),
            log=True,
        ),
    )


def worker_table(curves: Sequence[WorkerCurve]) -> Table:
    """Show what a worker does."""
    heads = ("Rows", "Extractions", "A second", "CPU of one, s", "Memory idle, MiB", "At most, MiB", "Throttled")
    rows = tuple(
        (
            number(curve.rows),
            number(curve.jobs),
            f"{curve.jobs_per_second:.2f}",
            f"{curve.cpu_seconds_per_job:.3f}",
            f"{curve.idle_memory_mib:.0f}",
            f"{curve.memory_mib:.0f}",
            f"{100 * curve.throttled_share:.0f} %",
        )
        for curve in curves
    )
    columns = tuple(Column(head, numeric=True) for head in heads)
    note = f"Ready {curves[0].ready_seconds:.1f} s after its start."
    return Table("A worker empties a queue", columns, rows, note=note)


def path_charts(seen: Sequence[Moment], predicted: Sequence[Moment] = ()) -> tuple[LineChart, ...]:
    """Draw replicas, and what the autoscaler saw."""
    replicas = [
        Series("ready", tuple((one.at, float(one.ready)) for one in seen)),
        Series("wanted", tuple((one.at, float(one.desired)) for one in seen)),
    ]
    if predicted:
        replicas.append(Series("predicted", tuple((one.at, float(one.desired)) for one in predicted), dashed=True))
    shares = (
        Series("CPU", tuple((one.at, 100 * one.cpu_share) for one in seen)),
        Series("memory", tuple((one.at, 100 * one.memory_share) for one in seen)),
    )
    return (
        LineChart(title="Pods", series=tuple(replicas), y_unit="pods", step=True),
        LineChart(title="What pods use of their requests, on average", series=shares, y_unit="%"),
    )


def happenings_table(happenings: Sequence[Happening]) -> Table:
    """List when each pod came, was ready, and left."""
    rows = tuple((clock(max(0.0, one.at)), one.what) for one in happenings if one.at >= 0)
    return Table("What happened to the pods", (Column("After"), Column("What", wide=True)), rows, "Nothing.")
