"""A release replaces pods without a gap, and leaves the number of pods to whom it belongs."""

from __future__ import annotations

from collections.abc import Iterator

from tests.k8s.cluster import Cluster, title


def rollout(cluster: Cluster) -> Iterator[str]:
    """New pods come before old ones go, old ReplicaSets are bounded, and an autoscaler's number is set by it alone."""
    scaled = {one["spec"]["scaleTargetRef"]["name"] for one, _, _ in cluster.autoscalers()}
    for one in cluster.of("Deployment"):
        spec = one["spec"]
        strategy = spec.get("strategy", {})
        if strategy != {"type": "Recreate"} and strategy.get("rollingUpdate") != {"maxUnavailable": 0, "maxSurge": 1}:
            yield f"{title(one)}: a rollout takes pods away before it has new ones"
        if "replicas" in spec and one["metadata"]["name"] in scaled:
            yield f"{title(one)}: replicas are the autoscaler's"
        if "revisionHistoryLimit" not in spec:
            yield f"{title(one)} keeps ten old ReplicaSets"


def jobs(cluster: Cluster) -> Iterator[str]:
    """Jobs end, are tried again, and are cleared away."""
    specs = {title(one): one["spec"] for one in cluster.of("Job")}
    specs |= {title(one): one["spec"]["jobTemplate"]["spec"] for one in cluster.of("CronJob")}
    for name, spec in specs.items():
        for key in ("backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"):
            if not spec.get(key):
                yield f"{name} has no {key}"
    for one in cluster.of("CronJob"):
        spec = one["spec"]
        if spec.get("concurrencyPolicy") != "Forbid" or "timeZone" not in spec:
            yield f"{title(one)} may run beside itself, or in an unknown time zone"
        yield from (f"{title(one)}: {fault}" for fault in _schedule(spec["schedule"]))


_FIELDS = {"minute": (0, 59), "hour": (0, 23), "day of month": (1, 31), "month": (1, 12), "day of week": (0, 6)}


def _schedule(schedule: str) -> Iterator[str]:
    """Faults of the five fields, which no schema knows."""
    fields = schedule.split()
    if len(fields) != len(_FIELDS):
        yield f"the schedule {schedule!r} has {len(fields)} fields"
        return
    for text, (field, (least, most)) in zip(fields, _FIELDS.items(), strict=True):
        for part in text.split(","):
            bounds, _, step = part.partition("/")
            first, _, last = bounds.partition("-")
            numbers = [number for number in (first, last or first) if number != "*"]
            valid = all(number.isdecimal() and least <= int(number) <= most for number in numbers)
            if not valid or (step and not step.isdecimal()) or (numbers and int(numbers[0]) > int(numbers[-1])):
                yield f"{part!r} is no {field}"
