"""Judges computed features by what the engine measured of them: one table of thresholds, scores from 0 to 1.

A feature is rejected for the first bar it does not clear, in the order of `RejectionReason`s below; what clears them
all is scored, and must reach the threshold's least score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from service.features.errors import QualityTooLow
from service.features.lineage import sources_of
from service.features.model import (
    Assessment,
    Dimension,
    FeatureEvidence,
    FeaturePlan,
    FeatureReport,
    FieldError,
    PlannedFeature,
    QualitySummary,
    RejectedFeature,
    RejectionReason,
    Threshold,
)
from service.features.operations import spec_of


class Bar(Struct, frozen=True):
    """What one quality threshold asks of a feature."""

    min_score: float
    max_null_ratio: float
    max_non_finite_ratio: float
    max_top_share: float
    """Share of the most frequent value among those known."""
    max_correlation: float
    """Absolute rank correlation with another accepted feature; evidence reports it from 0.8 on."""
    max_drift: float | None
    """Population stability index between the halves in time; None: no bar."""
    max_target_association: float
    min_distinct: int = 2


BARS: dict[Threshold, Bar] = {
    "low": Bar(
        min_score=0.3, max_null_ratio=0.95, max_non_finite_ratio=0.5, max_top_share=0.9995, max_correlation=1.0,
        max_drift=None, max_target_association=0.995,
    ),
    "medium": Bar(
        min_score=0.5, max_null_ratio=0.6, max_non_finite_ratio=0.05, max_top_share=0.99, max_correlation=0.98,
        max_drift=1.0, max_target_association=0.98,
    ),
    "high": Bar(
        min_score=0.7, max_null_ratio=0.2, max_non_finite_ratio=0.0, max_top_share=0.95, max_correlation=0.9,
        max_drift=0.25, max_target_association=0.9,
    ),
}  # fmt: skip
"""The one table of thresholds; prompts and documentation read it.

Sources: top share 95 % is caret's `nearZeroVar` (frequency ratio 95:5); medium allows the rare flags that class
imbalance makes useful (1 in 100), low those of 1 in 2000. Nulls above 60 % are where imputation is commonly given up,
20 % where it is commonly done without loss. Drift 0.25 is the level at which credit-scoring practice calls a
population shifted (0.1 stable; Siddiqi 2006); at 1.0 the halves hardly overlap. Correlation 0.9 is caret's
`findCorrelation`; at 0.98 only near copies fall, at 1.0 none. An association near 1 with the target is that of
a copy of it (Kaufman et al., "Leakage in Data Mining", 2012)."""

WEIGHTS: dict[Dimension, float] = {
    "completeness": 0.30,
    "variability": 0.25,
    "validity": 0.15,
    "redundancy": 0.10,
    "stability": 0.10,
    "leakage": 0.10,
}
"""A feature's score is the mean of its dimensions by these weights; a dimension that was not measured is left out."""

UNVARIED_SHARE = 0.8
"""Up to this top share variability is whole (the 80 % of scikit-learn's VarianceThreshold example)."""
NOTABLE_CORRELATION = 0.8
STABLE_DRIFT, SHIFTED_DRIFT = 0.1, 0.5
NOTABLE_ASSOCIATION = 0.5
CLEARLY_BETTER = 0.05
"""By so much must a later feature's score be higher to take the place of an earlier one it repeats."""


class Candidate(Struct, frozen=True):
    """A feature beside its evidence."""

    feature: PlannedFeature
    evidence: FeatureEvidence

    @property
    def drift(self) -> float | None:
        """Drift, where it means something."""
        return None if spec_of(self.feature.operation).follows_calendar else self.evidence.drift


Check = Callable[[Candidate, Bar], str | None]


def assess(plan: FeaturePlan, evidence: Sequence[FeatureEvidence], threshold: Threshold) -> Assessment:
    """Score each feature and sort it into accepted and rejected, both in the plan's order."""
    bar = BARS[threshold]
    candidates = [Candidate(feature, found) for feature, found in zip(plan.published, evidence, strict=True)]
    rejections: dict[str, tuple[RejectionReason, str]] = {}
    for candidate in candidates:
        if fault := _fault(candidate, bar):
            rejections[candidate.feature.name] = fault
    rejections |= _redundant([one for one in candidates if one.feature.name not in rejections], bar)
    kept = {one.feature.name for one in candidates if one.feature.name not in rejections}
    scored = [(one, dimensions(one, _closest(one, candidates, kept))) for one in candidates]
    accepted: list[FeatureReport] = []
    rejected: list[RejectedFeature] = []
    for candidate, scores in scored:
        total = score(scores)
        reason = rejections.get(candidate.feature.name)
        if reason is None and total < bar.min_score:
            reason = ("below_threshold", f"its score {total:.2f} is below the least of {bar.min_score:.2f}")
        if reason is None:
            accepted.append(_report(candidate, sources_of(plan, candidate.feature), total, scores))
        else:
            rejected.append(_rejected(candidate, total, *reason))
    return Assessment(tuple(accepted), tuple(rejected), _summary(threshold, accepted))


def require_features(assessment: Assessment) -> None:
    """Raise QualityTooLow, with the reason for each feature, when none was accepted."""
    if assessment.accepted:
        return
    threshold = assessment.quality.threshold
    raise QualityTooLow(
        f"None of the {len(assessment.rejected)} computed features passed the quality threshold {threshold!r}.",
        errors=[FieldError(f"features.{feature.name}", feature.detail) for feature in assessment.rejected],
    )


def dimensions(candidate: Candidate, correlation: float = 0.0) -> dict[Dimension, float]:
    """Scores 0 … 1 of what was measured; `correlation` is the highest with another accepted feature."""
    found = candidate.evidence
    varied = found.statistics.distinct_count > 1
    scores: dict[Dimension, float] = {
        "completeness": 1.0 - found.statistics.null_ratio,
        "validity": 1.0 - found.non_finite_ratio,
        "variability": _falling(found.top_share, UNVARIED_SHARE, 1.0) if varied else 0.0,
        "redundancy": _falling(correlation, NOTABLE_CORRELATION, 1.0),
    }
    if candidate.drift is not None:
        scores["stability"] = _falling(candidate.drift, STABLE_DRIFT, SHIFTED_DRIFT)
    if found.target_association is not None:
        scores["leakage"] = _falling(found.target_association, NOTABLE_ASSOCIATION, 1.0)
    return scores


def score(scores: dict[Dimension, float]) -> float:
    """The weighted mean of the dimensions."""
    return sum(WEIGHTS[name] * value for name, value in scores.items()) / sum(WEIGHTS[name] for name in scores)


def _falling(value: float, best: float, worst: float) -> float:
    """1 up to `best`, 0 from `worst` on, linear between."""
    return min(1.0, max(0.0, (worst - value) / (worst - best)))


def _fault(candidate: Candidate, bar: Bar) -> tuple[RejectionReason, str] | None:
    for reason, check in CHECKS:
        if detail := check(candidate, bar):
            return reason, detail
    return None


def _incomplete(candidate: Candidate, bar: Bar) -> str | None:
    missing = candidate.evidence.statistics.null_ratio
    if missing <= bar.max_null_ratio:
        return None
    return f"{_percent(missing)} of its values are missing; at most {_percent(bar.max_null_ratio)} may be"


def _invalid(candidate: Candidate, bar: Bar) -> str | None:
    ratio = candidate.evidence.non_finite_ratio
    if ratio <= bar.max_non_finite_ratio:
        return None
    most = _percent(bar.max_non_finite_ratio)
    return f"{_percent(ratio)} of its values are infinite or no number; at most {most} may be"


def _constant(candidate: Candidate, bar: Bar) -> str | None:
    found = candidate.evidence
    if found.statistics.distinct_count >= bar.min_distinct and found.top_share <= bar.max_top_share:
        return None
    share = "all" if found.statistics.distinct_count < bar.min_distinct else _percent(found.top_share)
    top = found.statistics.top_values
    value = top[0].value.removesuffix(".0") if top and found.dtype != "string" else "one and the same"
    return f"{share} of its values are {value}"


def _leaking(candidate: Candidate, bar: Bar) -> str | None:
    association = candidate.evidence.target_association
    if association is None or association <= bar.max_target_association:
        return None
    return f"it alone gives the target away: association {association:.3f} of 1"


def _unstable(candidate: Candidate, bar: Bar) -> str | None:
    if candidate.drift is None or bar.max_drift is None or candidate.drift <= bar.max_drift:
        return None
    return (
        f"its distribution shifts over time: population stability index {candidate.drift:.2f}; "
        f"at most {bar.max_drift:.2f} is taken as stable"
    )


CHECKS: tuple[tuple[RejectionReason, Check], ...] = (
    ("incomplete", _incomplete),
    ("invalid_values", _invalid),
    ("constant", _constant),
    ("leakage", _leaking),
    ("unstable", _unstable),
)


def _redundant(candidates: Sequence[Candidate], bar: Bar) -> dict[str, tuple[RejectionReason, str]]:
    """Of features that repeat one another the earlier stays, unless the later is clearly better."""
    kept: dict[str, float] = {}
    rejections: dict[str, tuple[RejectionReason, str]] = {}
    for candidate in candidates:
        name, own = candidate.feature.name, score(dimensions(candidate))
        related = candidate.evidence.correlations
        rivals = {rival: value for rival, value in related.items() if rival in kept and value > bar.max_correlation}
        if rivals and own < max(kept[rival] for rival in rivals) + CLEARLY_BETTER:
            closest = max(rivals, key=lambda rival: rivals[rival])
            rejections[name] = _repeats(closest, rivals[closest])
            continue
        for rival, value in rivals.items():
            del kept[rival]
            rejections[rival] = _repeats(name, value)
        kept[name] = own
    return rejections


def _repeats(other: str, correlation: float) -> tuple[RejectionReason, str]:
    return "redundant", f"it says the same as {other} (rank correlation {correlation:.3f})"


def _closest(candidate: Candidate, candidates: Sequence[Candidate], kept: set[str]) -> float:
    """The highest correlation with another feature that was kept, whichever of the two comes first."""
    name = candidate.feature.name
    earlier = [value for other, value in candidate.evidence.correlations.items() if other in kept]
    later = [one.evidence.correlations.get(name, 0.0) for one in candidates if one.feature.name in kept]
    return max([*earlier, *later], default=0.0)


def _report(
    candidate: Candidate, sources: tuple[str, ...], total: float, scores: dict[Dimension, float]
) -> FeatureReport:
    feature, evidence = candidate.feature, candidate.evidence
    return FeatureReport(
        name=feature.name,
        description=feature.description,
        dtype=evidence.dtype,
        operation=feature.operation,
        source_columns=sources,
        statistics=evidence.statistics,
        quality_score=total,
        quality_dimensions=scores,
        table=feature.table,
    )


def _rejected(candidate: Candidate, total: float, reason: RejectionReason, detail: str) -> RejectedFeature:
    feature = candidate.feature
    return RejectedFeature(feature.name, feature.description, feature.operation, reason, detail, total)


def _summary(threshold: Threshold, accepted: Sequence[FeatureReport]) -> QualitySummary:
    means: dict[Dimension, float] = {}
    for name in WEIGHTS:
        values = [report.quality_dimensions[name] for report in accepted if name in report.quality_dimensions]
        if values:
            means[name] = sum(values) / len(values)
    total = sum(report.quality_score for report in accepted) / len(accepted) if accepted else 0.0
    return QualitySummary(threshold, total, means)


def _percent(ratio: float) -> str:
    shown = f"{100 * ratio:.1f}"
    return "over 99.9 %" if shown == "100.0" and ratio < 1 else f"{shown.removesuffix('.0')} %"
