"""Stabilisation windows, policies and bounds between the wanted and the decided replicas."""

from __future__ import annotations

import math
from typing import NamedTuple

from loadtest.hpa.model import Controller, Stamped, State
from loadtest.hpa.proposals import MIN_INT32, rounded_up, wrapped
from loadtest.hpa.spec import MAX_INT32, SECOND, Behavior, Policy, Rules, Spec

Samples = tuple[Stamped, ...]

WITHIN = "DesiredWithinRange"
MAX_UP_FACTOR = 2
"""Without behavior a sync at most doubles the pods, or has this many: the controller's fixed limit."""
MIN_UP_LIMIT = 4


class Turn(NamedTuple):
    """What the metrics want at a sync, and what limits it."""

    spec: Spec
    controller: Controller
    state: State
    now: int
    current: int
    wanted: int


class Limited(NamedTuple):
    """The decided replicas, what limited them, and which recommendation was followed before that."""

    replicas: int
    reason: str
    stabilized: int


def remember(samples: Samples, new: Stamped, cutoff: int) -> Samples:
    """Put a sample in the place of the last one from before the cutoff, or at the end."""
    for index in range(len(samples) - 1, -1, -1):
        if samples[index].at < cutoff:
            return (*samples[:index], new, *samples[index + 1 :])
    return (*samples, new)


def plain(turn: Turn) -> tuple[Limited, Samples]:
    """Limit as a spec without behavior does: the highest recommendation of the window, and twice the pods."""
    spec, samples = turn.spec, turn.state.recommendations
    cutoff = turn.now - turn.controller.downscale
    stabilized = max([turn.wanted, *(sample.replicas for sample in samples if sample.at >= cutoff)])
    samples = remember(samples, Stamped(turn.wanted, turn.now), cutoff)
    limit = max(MAX_UP_FACTOR * turn.current, MIN_UP_LIMIT)
    highest, reason = (limit, "ScaleUpLimit") if spec.maximum > limit else (spec.maximum, "TooManyReplicas")
    if stabilized < spec.minimum:
        return Limited(spec.minimum, "TooFewReplicas", stabilized), samples
    if stabilized > highest:
        return Limited(highest, reason, stabilized), samples
    return Limited(stabilized, WITHIN, stabilized), samples


def with_behavior(turn: Turn, behavior: Behavior) -> tuple[Limited, Samples]:
    """Limit by a behavior: the windows of both directions, then the policies of the direction."""
    samples, now, wanted = turn.state.recommendations, turn.now, turn.wanted
    up, down = behavior.up.window or 0, behavior.down.window
    if down is None:  # the controller cuts its own window to whole seconds here, and only here
        down = turn.controller.downscale - turn.controller.downscale % SECOND
    lowest = min([wanted, *(sample.replicas for sample in samples if sample.at > now - up)])
    highest = max([wanted, *(sample.replicas for sample in samples if sample.at > now - down)])
    stabilized = min(max(turn.current, lowest), highest)
    return by_rate(turn, behavior, stabilized), remember(samples, Stamped(wanted, now), now - max(up, down))


def by_rate(turn: Turn, behavior: Behavior, stabilized: int) -> Limited:
    """Limit a recommendation by the policies of its direction and the bounds of the spec."""
    spec, state, now, current = turn.spec, turn.state, turn.now, turn.current
    if stabilized > current:
        limit = max(up_limit(behavior.up, state, now, current), current)
        highest, reason = (limit, "ScaleUpLimit") if spec.maximum > limit else (spec.maximum, "TooManyReplicas")
        if stabilized > highest:
            return Limited(highest, reason, stabilized)
    elif stabilized < current:
        limit = min(down_limit(behavior.down, state, now, current), current)
        lowest, reason = (limit, "ScaleDownLimit") if spec.minimum < limit else (spec.minimum, "TooFewReplicas")
        if stabilized < lowest:
            return Limited(lowest, reason, stabilized)
    return Limited(stabilized, WITHIN, stabilized)


def up_limit(rules: Rules, state: State, now: int, current: int) -> int:
    """Return the most replicas that the policies allow: the highest of them, or with Min the lowest."""
    if rules.select == "Disabled":
        return current
    allowed = [raised(policy, at_start(policy, state, now, current)) for policy in rules.policies]
    return min(allowed) if rules.select == "Min" else max(allowed)


def down_limit(rules: Rules, state: State, now: int, current: int) -> int:
    """Return the fewest replicas that the policies allow: the lowest of them, or with Min the highest."""
    if rules.select == "Disabled":
        return current
    allowed = [lowered(policy, at_start(policy, state, now, current)) for policy in rules.policies]
    return max(allowed) if rules.select == "Min" else min(allowed)


def at_start(policy: Policy, state: State, now: int, current: int) -> int:
    """Return the replicas at the start of the policy's period."""
    after = now - policy.period
    added = sum(event.replicas for event in state.added if event.at > after)
    removed = sum(event.replicas for event in state.removed if event.at > after)
    return current - added + removed


def raised(policy: Policy, replicas: int) -> int:
    """Return the most replicas after a policy's step, rounded up so that it is a step."""
    if policy.type == "Pods":
        return wrapped(replicas + policy.value)
    return rounded_up(replicas * (1 + policy.value / 100))


def lowered(policy: Policy, replicas: int) -> int:
    """Return the fewest replicas after a policy's step."""
    if policy.type == "Pods":
        return wrapped(replicas - policy.value)
    fewest = math.trunc(replicas * (1 - policy.value / 100))
    return fewest if MIN_INT32 <= fewest <= MAX_INT32 else MIN_INT32


def record(behavior: Behavior | None, state: State, now: int, current: int, desired: int) -> tuple[Samples, Samples]:
    """Return the events added and removed with this change; a spec without behavior needs none."""
    if behavior is None:
        return state.added, state.removed
    rules, change = (behavior.up, desired - current) if desired > current else (behavior.down, current - desired)
    cutoff = now - max(policy.period for policy in rules.policies)
    if desired > current:
        return remember(state.added, Stamped(change, now), cutoff), state.removed
    return state.added, remember(state.removed, Stamped(change, now), cutoff)
