"""Mistakes in the HPA model are found by the recorded decisions: each mutant differs from the real controller."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from loadtest.hpa import algorithm, limits, proposals
from loadtest.hpa.world import Sync
from tests.unit.hpa_fixtures import FILES, differences

MODULES = (proposals, limits, algorithm)
"""In the order in which they import each other."""

MUTANTS = {
    "the tolerance is dropped": ("1.0 - tolerance <= ratio <= 1.0 + tolerance", "ratio == 1.0"),
    "the tolerance excludes its upper edge": ("<= ratio <= 1.0 + tolerance", "<= ratio < 1.0 + tolerance"),
    "the tolerance excludes its lower edge": ("1.0 - tolerance <= ratio", "1.0 - tolerance < ratio"),
    "the tolerance is a difference from 1": (
        "1.0 - tolerance <= ratio <= 1.0 + tolerance",
        "abs(1.0 - ratio) <= tolerance",
    ),
    "counts are rounded down": ("up = math.ceil(number)", "up = math.floor(number)"),
    "counts are rounded to the nearest": ("up = math.ceil(number)", "up = round(number)"),
    "utilization is not cut to whole per cent": (
        "used = wrapped(quotient(total * 100, self.request * pods))",
        "used = total * 100 / (self.request * pods)",
    ),
    "utilization is averaged before it is cut": (
        "quotient(total * 100, self.request * pods)",
        "quotient(quotient(total, pods) * 100, self.request)",
    ),
    "averages are not cut": ("float(used) / float(self.amount)", "total / pods / float(self.amount)"),
    "a missing pod uses its request even at a higher target": ("max(100, self.percent)", "100"),
    "a missing pod uses the target": ("self.request * max(100, self.percent)", "self.request * self.percent"),
    "a missing gauge is 0": ('"""Exactly the target."""\n        return self.amount', "return 0"),
    "missing pods are ignored": ("missing += 1", "pass"),
    "missing pods count before a scale-up as before a scale-down": ("if ratio < 1.0:", "if ratio != 1.0:"),
    "missing pods count at exactly the target": ("if ratio != 1.0:", "if True:"),
    "unready pods are ignored before a scale-up": ("groups.unready if ratio > 1.0 else 0", "0"),
    "unready pods count before a scale-down": ("groups.unready if ratio > 1.0 else 0", "groups.unready"),
    "pending pods are missing": (
        "if not pod.running:\n            unready += 1",
        "if not pod.running:\n            missing += 1",
    ),
    "cpu of starting pods counts": ("elif cpu and not", "elif False and not"),
    "memory waits for readiness too": ("elif cpu and not", "elif resource and not"),
    "gauges wait for readiness too": ("elif cpu and not", "elif not"),
    "the first window of a sample is not awaited": (
        "pod.ready and pod.sampled >= pod.changed + seen.window",
        "pod.ready",
    ),
    "a sample needs more than a window": ("pod.sampled >= pod.changed", "pod.sampled > pod.changed"),
    "the initialization is a moment longer": (
        "controller.cpu_initialization > seen.now",
        "controller.cpu_initialization >= seen.now",
    ),
    "there is no initialization": ("pod.started + controller.cpu_initialization > seen.now", "False"),
    "the readiness delay is a moment longer": (
        "controller.readiness_delay <= pod.changed",
        "controller.readiness_delay < pod.changed",
    ),
    "a pod that was never ready counts": ("return pod.ready or pod.started", "return True or pod.started"),
    "a turn upward is not seen": ("return ratio > 1.0 or wanted > current", "return False"),
    "a turn downward is not seen": ("again > 1.0 and (ratio < 1.0 or wanted < current)", "False"),
    "the damped change ignores the tolerance": ("if within(again, controller.tolerance) or turned", "if turned"),
    "the count is of all pods": ("rounded_up(ratio * groups.counted)", "rounded_up(ratio * current)"),
    "the damped count is of all pods": ("wanted = rounded_up(again * counted)", "wanted = rounded_up(again * current)"),
    "external values are for all pods": ("sum(pod.running and pod.ready for pod in seen.pods)", "seen.replicas"),
    "external values are for running pods": ("pod.running and pod.ready for", "pod.running for"),
    "external averages have no tolerance": (
        "if not within(float(usage) / (float(metric.amount) * float(wanted)), controller.tolerance):",
        "if True:",
    ),
    "an external average is taken as a total": ('if metric.target == "AverageValue"', 'if metric.target == "Average"'),
    "an overflow is cut at the highest integer": (
        "up if MIN_INT32 <= up <= MAX_INT32 else MIN_INT32",
        "min(up, MAX_INT32)",
    ),
    "the lowest proposal is taken": ("proposal.replicas > chosen[0]", "proposal.replicas < chosen[0]"),
    "a proposal of 0 stays": ("or chosen[0] == 0 ", ""),
    "the first proposal is taken": ("or proposal.replicas > chosen[0]", ""),
    "a failing metric is ignored": ("chosen is None or chosen[0] < seen.replicas", "chosen is None"),
    "a failing metric stops everything": ("(chosen is None or chosen[0] < seen.replicas)", "True"),
    "a failing metric keeps what is at its size": ("chosen[0] < seen.replicas", "chosen[0] <= seen.replicas"),
    "the last failure is named": ("failure = failure or Condition(", "failure = Condition("),
    "the first sync is not remembered": ("if not state.recommendations:", "if False:"),
    "0 replicas are scaled": ("if current == 0:", "if current < 0:"),
    "maxReplicas waits for metrics": ("if current > spec.maximum:", "if False:"),
    "minReplicas waits for metrics": ("if current < spec.minimum:", "if False:"),
    "the plain window excludes its edge": ("if sample.at >= cutoff", "if sample.at > cutoff"),
    "the plain window follows the lowest": ("stabilized = max([turn.wanted,", "stabilized = min([turn.wanted,"),
    "there is no plain window": ("cutoff = turn.now - turn.controller.downscale", "cutoff = turn.now"),
    "a step up triples": ("MAX_UP_FACTOR = 2", "MAX_UP_FACTOR = 3"),
    "a step up has at least 5": ("MIN_UP_LIMIT = 4", "MIN_UP_LIMIT = 5"),
    "the window upward includes its edge": ("if sample.at > now - up", "if sample.at >= now - up"),
    "the window downward includes its edge": ("if sample.at > now - down", "if sample.at >= now - down"),
    "the window upward follows the highest": ("lowest = min([wanted", "lowest = max([wanted"),
    "the windows are swapped": (
        "up, down = behavior.up.window or 0, behavior.down.window",
        "down, up = behavior.up.window, behavior.down.window or 0",
    ),
    "the wanted is followed rather than the current": ("max(turn.current, lowest)", "max(wanted, lowest)"),
    "the controller's window is not cut to seconds": (
        "turn.controller.downscale - turn.controller.downscale % SECOND",
        "turn.controller.downscale",
    ),
    "Min upward is Max": ('return min(allowed) if rules.select == "Min" else max(allowed)', "return max(allowed)"),
    "Max upward is Min": ('return min(allowed) if rules.select == "Min" else max(allowed)', "return min(allowed)"),
    "Min downward is Max": ('return max(allowed) if rules.select == "Min" else min(allowed)', "return min(allowed)"),
    "Max downward is Min": ('return max(allowed) if rules.select == "Min" else min(allowed)', "return max(allowed)"),
    "Disabled upward is not known": (
        'if rules.select == "Disabled":\n        return current\n    allowed = [raised',
        "allowed = [raised",
    ),
    "Disabled downward is not known": (
        'if rules.select == "Disabled":\n        return current\n    allowed = [lowered',
        "allowed = [lowered",
    ),
    "Percent upward is rounded down": (
        "rounded_up(replicas * (1 + policy.value / 100))",
        "math.floor(replicas * (1 + policy.value / 100))",
    ),
    "Percent downward is rounded up": (
        "math.trunc(replicas * (1 - policy.value / 100))",
        "math.ceil(replicas * (1 - policy.value / 100))",
    ),
    "Percent downward is a share of what remains": (
        "math.trunc(replicas * (1 - policy.value / 100))",
        "math.trunc(replicas / (1 + policy.value / 100))",
    ),
    "Pods upward is Percent": (
        '"Pods":\n        return wrapped(replicas + policy',
        '"":\n        return (replicas + policy',
    ),
    "Pods downward is Percent": (
        '"Pods":\n        return wrapped(replicas - policy',
        '"":\n        return (replicas - policy',
    ),
    "a policy's integers do not overflow": ("wrapped(replicas + policy.value)", "replicas + policy.value"),
    "the period starts with now": ("return current - added + removed", "return current"),
    "what was removed in the period is forgotten": ("return current - added + removed", "return current - added"),
    "the period includes its edge": (
        "for event in state.added if event.at > after",
        "for event in state.added if event.at >= after",
    ),
    "an upward limit may be below the current": (
        "max(up_limit(behavior.up, state, now, current), current)",
        "up_limit(behavior.up, state, now, current)",
    ),
    "a downward limit may be above the current": (
        "min(down_limit(behavior.down, state, now, current), current)",
        "down_limit(behavior.down, state, now, current)",
    ),
    "old events are kept": ("if samples[index].at < cutoff:", "if False:"),
    "the first of the old events is replaced": (
        "range(len(samples) - 1, -1, -1)",
        "range(len(samples))",
    ),
    "the shortest period decides what is old": ("now - max(policy.period", "now - min(policy.period"),
    "events go to the other direction": (
        "if desired > current:\n        return remember(state.added",
        "if desired < current:\n        return remember(state.added",
    ),
    "the reason is written at every sync": ("status.why if status != state.status else None", "status.why"),
}


def mutated(before: str, after: str) -> Sync:
    """Return `sync` of a copy of the modules with one place changed."""
    kept = {module.__name__: module for module in MODULES}
    sources = {name: Path(str(module.__file__)).read_text() for name, module in kept.items()}
    assert sum(source.count(before) for source in sources.values()) == 1, f"not one place with: {before}"
    copies: dict[str, ModuleType] = {}
    try:
        for name, source in sources.items():
            copies[name] = sys.modules[name] = ModuleType(name)
            exec(compile(source.replace(before, after), name, "exec"), copies[name].__dict__)  # noqa: S102 - our own source
    finally:
        sys.modules.update(kept)
    return copies[algorithm.__name__].sync


def caught(sync: Sync) -> bool:
    """Tell whether a scenario comes out differently, or not at all."""
    try:
        return any(next(differences(name, sync), None) for name in reversed(FILES))
    except (ArithmeticError, ValueError, TypeError):
        return True


def test_a_copy_without_a_change_differs_nowhere() -> None:
    """What catches the mutants is their change, not the copying."""
    assert not caught(mutated("MAX_UP_FACTOR = 2", "MAX_UP_FACTOR = 2"))


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(name: str) -> None:
    """One changed rule gives at least one other decision."""
    assert caught(mutated(*MUTANTS[name])), f"survived: {name}"
