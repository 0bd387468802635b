"""From one metric's measurements to the replicas that it asks for."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from loadtest.hpa.model import Controller, Observation, Pod, Proposal
from loadtest.hpa.spec import MAX_INT32, Metric

MIN_INT32 = -(2**31)
MAX_INT64 = 2**63 - 1


class Unavailable(Exception):
    """The metric gives no proposal at this sync; the message says why."""


class Groups(NamedTuple):
    """The pods of a metric: the sum over those that count, and how many there are of each group."""

    total: int
    counted: int
    missing: int
    unready: int


class Target(Protocol):
    """What a metric of pods is measured against."""

    @property
    def assumed(self) -> int:
        """What a pod without a sample is assumed to use before a scale-down."""
        ...

    def measure(self, total: int, pods: int) -> tuple[float, tuple[int, ...]]:
        """Return the ratio of usage to target, and the values for the status."""
        ...


class Utilization(NamedTuple):
    """Per cent of the pods' request."""

    percent: int
    request: int

    @property
    def assumed(self) -> int:
        """All of the request, or the target where that is more."""
        return self.request * max(100, self.percent) // 100

    def measure(self, total: int, pods: int) -> tuple[float, tuple[int, ...]]:
        """Compare whole per cent of the requests of these pods."""
        used = wrapped(quotient(total * 100, self.request * pods))
        return used / self.percent, (used, quotient(total, pods))


class Average(NamedTuple):
    """Thousandths of a pod."""

    amount: int

    @property
    def assumed(self) -> int:
        """Exactly the target."""
        return self.amount

    def measure(self, total: int, pods: int) -> tuple[float, tuple[int, ...]]:
        """Compare the average over these pods."""
        used = quotient(total, pods)
        return float(used) / float(self.amount), (used,)


def quotient(total: int, parts: int) -> int:
    """Divide as 64-bit integers do: towards zero."""
    return total // parts if total >= 0 else -(-total // parts)


def wrapped(number: int) -> int:
    """Keep the lowest 32 bits of an integer, as the controller's conversion does."""
    return (number - MIN_INT32) % 2**32 + MIN_INT32


def rounded_up(number: float) -> int:
    """Round up to a 32-bit integer; one that does not fit becomes the lowest, as on amd64."""
    up = math.ceil(number)
    return up if MIN_INT32 <= up <= MAX_INT32 else MIN_INT32


def within(ratio: float, tolerance: float) -> bool:
    """Tell whether usage is so close to the target that nothing changes."""
    return 1.0 - tolerance <= ratio <= 1.0 + tolerance


def propose(metric: Metric, controller: Controller, seen: Observation) -> Proposal:
    """Return what the metric asks for, or raise Unavailable."""
    if metric.name in seen.broken:
        raise Unavailable("the metrics API answers with an error")
    if metric.kind == "External":
        return external(metric, controller, seen)
    groups = group(seen.pods, metric, controller, seen)
    if not groups.counted:
        raise Unavailable("no ready pod has a sample")
    return per_pod(groups, target_of(metric, seen), controller, seen.replicas)


def target_of(metric: Metric, seen: Observation) -> Target:
    """Return what the metric is measured against."""
    if metric.target != "Utilization":
        return Average(metric.amount)
    request = seen.requests.get(metric.name)
    if not request:
        raise Unavailable(f"the pods have no request of {metric.name}")
    return Utilization(metric.amount, request)


def group(pods: Iterable[Pod], metric: Metric, controller: Controller, seen: Observation) -> Groups:
    """Sort the pods into those that count, those without a sample and those that are not ready for this metric."""
    name, resource = metric.name, metric.kind == "Resource"
    cpu = resource and name == "cpu"
    total = counted = missing = unready = samples = 0
    for pod in pods:
        sample = (pod.usage if resource else pod.gauges).get(name)
        samples += sample is not None
        if pod.leaving:
            continue
        if not pod.running:
            unready += 1
        elif sample is None:
            missing += 1
        elif cpu and not settled(pod, controller, seen):
            unready += 1
        else:
            counted += 1
            total += sample
    if not samples:
        raise Unavailable("the metrics API has no sample")
    return Groups(total, counted, missing, unready)


def settled(pod: Pod, controller: Controller, seen: Observation) -> bool:
    """Tell whether a pod's cpu says something: it is past its start, or ready for a whole window of samples."""
    if pod.started is None:
        return False
    if pod.started + controller.cpu_initialization > seen.now:
        return pod.ready and pod.sampled >= pod.changed + seen.window
    return pod.ready or pod.started + controller.readiness_delay <= pod.changed


def per_pod(groups: Groups, target: Target, controller: Controller, current: int) -> Proposal:
    """Return what a metric of pods asks for; pods without a number are assumed such that they damp the change."""
    ratio, shown = target.measure(groups.total, groups.counted)
    idle = groups.unready if ratio > 1.0 else 0
    if not idle and not groups.missing:
        wanted = current if within(ratio, controller.tolerance) else rounded_up(ratio * groups.counted)
        return Proposal(wanted, shown)
    total, counted = groups.total, groups.counted + idle
    if ratio != 1.0:
        counted += groups.missing
    if ratio < 1.0:
        total += groups.missing * target.assumed
    again, _ = target.measure(total, counted)
    wanted = rounded_up(again * counted)
    if within(again, controller.tolerance) or turned(ratio, again, wanted, current):
        wanted = current
    return Proposal(wanted, shown)


def turned(ratio: float, again: float, wanted: int, current: int) -> bool:
    """Tell whether the assumptions about pods without a number changed the direction."""
    if again < 1.0:
        return ratio > 1.0 or wanted > current
    return again > 1.0 and (ratio < 1.0 or wanted < current)


def external(metric: Metric, controller: Controller, seen: Observation) -> Proposal:
    """Return what an external metric asks for."""
    usage = seen.external.get(metric.name)
    if usage is None:
        raise Unavailable("the metrics API has no value")
    if metric.target == "AverageValue":
        wanted = seen.replicas
        if usage < 0:  # the controller takes a negative sum for an overflow
            usage = MAX_INT64
        if not within(float(usage) / (float(metric.amount) * float(wanted)), controller.tolerance):
            wanted = min(math.ceil(float(usage) / float(metric.amount)), MAX_INT32)
        return Proposal(wanted, (usage if usage == MAX_INT64 else math.ceil(float(usage) / float(seen.replicas)),))
    ratio = float(usage) / float(metric.amount)
    if within(ratio, controller.tolerance):
        return Proposal(seen.replicas, (usage,))
    if not seen.pods:
        raise Unavailable("there are no pods")
    return Proposal(rounded_up(ratio * sum(pod.running and pod.ready for pod in seen.pods)), (usage,))
