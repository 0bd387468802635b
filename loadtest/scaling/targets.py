"""The verdict on each target of the API's autoscaler: valid, or invalid with the number that would be right and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from loadtest.hpa.spec import Metric
from loadtest.scaling.autoscaler import GAUGE, Flags
from loadtest.scaling.curve import Curve
from loadtest.scaling.manifest import MIB, Deployed
from loadtest.scaling.path import Moment, highest, predict

MAX_IDLE_SHARE = 0.60
"""Idle memory of the request above which a memory target of 80 % keeps pods that are not needed."""
RATCHET_SECONDS = 3600.0
MEMORY_STEP_MIB = 16
MODEL_SECONDS = 2.5
"""How long a request waits for a model's plan: the median of loadtest/model_stub/latencies/typical-llm.json."""
DEFAULT_CPU_TARGET = 80


class Target(Struct, frozen=True):
    """What was found of one target."""

    metric: str
    target: str
    """As the manifest has it."""
    valid: bool
    right: str
    """The number that would be right; the same one when it is."""
    sentence: str


def judge_targets(deployed: Deployed, curve: Curve, predicted: Sequence[Moment], flags: Flags) -> list[Target]:
    """Judge each target by the measured curve and the predicted path."""
    found: list[Target] = []
    for metric in deployed.spec().metrics:
        if metric.name == "cpu":
            found.append(_cpu(metric, deployed, curve, predicted))
        elif metric.name == "memory":
            found.append(_memory(metric, deployed, curve, flags))
        elif metric.name == GAUGE:
            found.append(_in_flight(metric, deployed, curve, flags))
    return found


def cpu_target_cores(deployed: Deployed) -> float:
    """Give the cores that a pod uses at the CPU target."""
    amounts = [metric.amount for metric in deployed.spec().metrics if metric.name == "cpu"]
    share = amounts[0] if amounts else DEFAULT_CPU_TARGET
    return share / 100 * deployed.resources.request_cpu_m / 1000


def _cpu(metric: Metric, deployed: Deployed, curve: Curve, predicted: Sequence[Moment]) -> Target:
    """Judge whether a pod stays below its knee while new pods start, at the worst moment of the predicted path."""
    at_target = curve.rate_at_cpu(cpu_target_cores(deployed))
    knee = curve.knee.requests_per_second
    worst = max((moment.requests_per_pod for moment in predicted), default=0.0)
    valid = worst <= knee
    right = metric.amount if valid else max(1, int(metric.amount * knee / worst))
    sentence = (
        f"at {metric.amount} % of its request a pod serves {at_target:.0f} requests/s, and its objectives hold up to "
        f"{knee:.0f}; while new pods start, the planned traffic asks up to {worst:.0f} of one"
    )
    sentence += "" if valid else f": too many, and {right} % would leave room for it"
    return Target("cpu", f"{metric.amount} %", valid, f"{right} %", sentence)


def _memory(metric: Metric, deployed: Deployed, curve: Curve, flags: Flags) -> Target:
    """Judge whether what idle pods hold would keep the pods that a peak brought."""
    spec, request = deployed.spec(), deployed.resources.request_memory / MIB
    idle = max(curve.idle_memory_mib, curve.rested_memory_mib)
    seconds = RATCHET_SECONDS / flags.speed
    resting = predict(
        curve,
        deployed,
        flags,
        lambda _: 0.0,
        seconds,
        ready_seconds=1.0,
        memory_mib=idle,
        replicas=spec.maximum,
    )
    rests_at = resting[-1].desired
    valid = idle <= MAX_IDLE_SHARE * request and rests_at == spec.minimum
    needed = request if valid else -(-idle // (MAX_IDLE_SHARE * MEMORY_STEP_MIB)) * MEMORY_STEP_MIB
    sentence = (
        f"after load an idle pod holds {idle:.0f} of the {request:.0f} MiB that it requests "
        f"({100 * idle / request:.0f} %); from {spec.maximum} idle pods the autoscaler comes back to {rests_at} of "
        f"{spec.minimum}"
    )
    sentence += "" if valid else f": memory keeps them, and a request of {needed:.0f} MiB would not"
    return Target("memory", f"{metric.amount} %", valid, f"{metric.amount} % of {needed:.0f} MiB", sentence)


def _in_flight(metric: Metric, deployed: Deployed, curve: Curve, flags: Flags) -> Target:
    """Judge whether requests that wait, and use no CPU, bring pods by this target and by no other."""
    spec, target = deployed.spec(), metric.amount / 1000
    at_cpu_target = curve.in_flight_at(curve.rate_at_cpu(cpu_target_cores(deployed)))
    waiting = target * (spec.minimum + spec.maximum) / 2
    rate, seconds = waiting / MODEL_SECONDS, 600 / flags.speed
    seeing = predict(
        curve,
        deployed,
        flags,
        lambda _: rate,
        seconds,
        ready_seconds=1.0,
        in_flight=lambda share: share * MODEL_SECONDS,
    )
    without = replace(deployed, autoscaler=_without(deployed.autoscaler, metric.name))
    blind = predict(curve, without, flags, lambda _: rate, seconds, ready_seconds=1.0)
    valid = at_cpu_target <= target and highest(seeing) > highest(blind)
    right = target if valid else max(target, 2 * round(at_cpu_target + 0.5))
    sentence = (
        f"with {waiting:.0f} requests that wait {MODEL_SECONDS:g} s for a model it asks for {highest(seeing)} pods, "
        f"where CPU and memory stay at {highest(blind)}; at its CPU target a pod has {at_cpu_target:.1f} in flight"
    )
    sentence += "" if valid else f": it acts before CPU does, or not at all; {right:g} would be right"
    return Target(metric.name, f"{target:g}", valid, f"{right:g}", sentence)


def _without(autoscaler: dict[str, Any], name: str) -> dict[str, Any]:
    kept = [one for one in autoscaler["metrics"] if one.get("pods", {}).get("metric", {}).get("name") != name]
    return {**autoscaler, "metrics": kept}
