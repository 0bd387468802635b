"""One sync of the HorizontalPodAutoscaler controller of Kubernetes 1.34, as a pure function.

The caller brings the observation (of real processes, of a simulation, or of a forecast), applies `Outcome.desired`, and
gives `Outcome.state` back at the next sync. No clock and no I/O in here.
"""

from __future__ import annotations

from msgspec.structs import replace

from loadtest.hpa.limits import Turn, plain, record, with_behavior
from loadtest.hpa.model import Condition, Controller, Observation, Outcome, Proposal, Stamped, State, Status
from loadtest.hpa.proposals import Unavailable, propose
from loadtest.hpa.spec import Metric, Spec

FOUND = Condition(status=True, reason="SucceededGetScale")
DISABLED = Condition(status=False, reason="ScalingDisabled")

Shown = tuple[tuple[int, ...] | None, ...]


def sync(spec: Spec, controller: Controller, seen: Observation, state: State) -> Outcome:
    """Decide the replicas of one sync."""
    current = seen.replicas
    if not state.recommendations:
        state = replace(state, recommendations=(Stamped(current, seen.now),))
    if current == 0:
        return conclude(state, replace(state.status, current=0, desired=0, shown=(), able=FOUND, active=DISABLED))
    if current > spec.maximum:
        return rescale(spec, seen, state, replace(state.status, shown=()), spec.maximum)
    if current < spec.minimum:
        return rescale(spec, seen, state, replace(state.status, shown=()), spec.minimum)
    wanted, shown, active = combine(spec, controller, seen)
    status = replace(state.status, current=current, shown=shown, able=FOUND, active=active)
    return conclude(state, status) if wanted is None else normalize(spec, controller, seen, state, status, wanted)


def combine(spec: Spec, controller: Controller, seen: Observation) -> tuple[int | None, Shown, Condition]:
    """Take the highest proposal; None if all metrics fail, or if some fail and the others ask for fewer replicas."""
    chosen: tuple[int, Metric] | None = None
    failure: Condition | None = None
    shown: list[tuple[int, ...] | None] = []
    for metric in spec.metrics:
        try:
            proposal = propose(metric, controller, seen)
        except Unavailable as error:
            failure = failure or Condition(
                status=False, reason=f"FailedGet{metric.kind}Metric", detail=f"{metric.describe()}: {error}"
            )
            shown.append(None)
            continue
        shown.append(proposal.shown)
        chosen = higher(chosen, metric, proposal)
    if failure and (chosen is None or chosen[0] < seen.replicas):
        return None, tuple(shown), failure
    wanted, metric = chosen or (0, spec.metrics[0])
    return max(wanted, 0), tuple(shown), Condition(status=True, reason="ValidMetricFound", detail=metric.describe())


def higher(chosen: tuple[int, Metric] | None, metric: Metric, proposal: Proposal) -> tuple[int, Metric]:
    """Return the higher of two proposals; one of 0 gives way to any other, as it does in the controller."""
    if chosen is None or chosen[0] == 0 or proposal.replicas > chosen[0]:
        return proposal.replicas, metric
    return chosen


def normalize(
    spec: Spec, controller: Controller, seen: Observation, state: State, status: Status, wanted: int
) -> Outcome:
    """Apply windows, policies and bounds to what the metrics want."""
    current = seen.replicas
    turn = Turn(spec, controller, state, seen.now, current, wanted)
    limited, samples = with_behavior(turn, spec.behavior) if spec.behavior else plain(turn)
    reason = "ReadyForNewScale"
    if limited.stabilized != wanted:
        reason = "ScaleUpStabilized" if spec.behavior and wanted >= current else "ScaleDownStabilized"
    status = replace(
        status,
        desired=current,
        able=Condition(status=True, reason=reason),
        limited=Condition(status=limited.replicas != limited.stabilized, reason=limited.reason),
    )
    state = replace(state, recommendations=samples)
    if limited.replicas == current:
        return conclude(state, status)
    return rescale(spec, seen, state, status, limited.replicas)


def rescale(spec: Spec, seen: Observation, state: State, status: Status, desired: int) -> Outcome:
    """Change the number of replicas and remember by how many."""
    added, removed = record(spec.behavior, state, seen.now, seen.replicas, desired)
    able = Condition(status=True, reason="SucceededRescale", detail=str(desired))
    status = replace(status, current=seen.replicas, desired=desired, scaled=seen.now, able=able)
    return conclude(replace(state, added=added, removed=removed), status, desired)


def conclude(state: State, status: Status, desired: int | None = None) -> Outcome:
    """Write the status; the outcome has a reason when the status changed."""
    why = status.why if status != state.status else None
    return Outcome(status.current if desired is None else desired, replace(state, status=status), why)
