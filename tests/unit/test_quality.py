"""Judging features by their evidence."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from service.features import operations as op
from service.features.errors import QualityTooLow
from service.features.model import (
    Assessment,
    FeatureEvidence,
    FeaturePlan,
    FeatureStatistics,
    PlannedFeature,
    Threshold,
    ValueCount,
)
from service.features.operations import AnyOperation
from service.features.quality import BARS, WEIGHTS, assess, require_features

SOUND = FeatureEvidence(
    name="",
    dtype="number",
    statistics=FeatureStatistics(count=1000, null_ratio=0.0, distinct_count=900, minimum=0.0, maximum=9.0),
    non_finite_ratio=0.0,
    top_share=0.01,
)


def evidence(**changes: Any) -> FeatureEvidence:
    """A sound feature's evidence but for the changes; statistics' own fields go into them."""
    inside = {key: changes.pop(key) for key in list(changes) if key in FeatureStatistics.__struct_fields__}
    return replace(SOUND, statistics=replace(SOUND.statistics, **inside), **changes)


def judged(
    *found: FeatureEvidence, threshold: Threshold = "medium", operation: AnyOperation | None = None
) -> Assessment:
    """The assessment of features f0, f1 … with this evidence."""
    named = [replace(one, name=f"f{place}") for place, one in enumerate(found)]
    features = [PlannedFeature(one.name, "A feature.", operation or op.Value(one.name)) for one in named]
    return assess(FeaturePlan("row", tuple(features)), named, threshold)


def reasons(assessment: Assessment) -> dict[str, str]:
    """Why each rejected feature was."""
    return {feature.name: feature.reason for feature in assessment.rejected}


def test_a_sound_feature_is_accepted_with_its_lineage() -> None:
    """Nothing against it: full score, and the report tells what it was made of."""
    report = judged(evidence(), threshold="high").accepted[0]
    assert report.quality_score == 1.0
    assert report.source_columns == ("f0",)
    assert set(report.quality_dimensions) == {"completeness", "validity", "variability", "redundancy"}


@pytest.mark.parametrize(
    ("found", "reason", "detail"),
    [
        (evidence(null_ratio=0.7), "incomplete", "70 % of its values are missing; at most 60 % may be"),
        (evidence(non_finite_ratio=0.2), "invalid_values", "20 % of its values are infinite"),
        (evidence(distinct_count=1, top_share=1.0), "constant", "all of its values are one and the same"),
        (
            evidence(dtype="integer", distinct_count=2, top_share=0.9917, top_values=(ValueCount("0", 9917),)),
            "constant",
            "99.2 % of its values are 0",
        ),
        (
            evidence(dtype="string", distinct_count=2, top_share=0.9999, top_values=(ValueCount("secret", 9),)),
            "constant",
            "over 99.9 % of its values are one and the same",
        ),
        (evidence(target_association=0.99), "leakage", "it alone gives the target away: association 0.990"),
        (evidence(drift=1.7), "unstable", "population stability index 1.70"),
    ],
)
def test_a_bar_that_is_not_cleared_is_the_reason(found: FeatureEvidence, reason: str, detail: str) -> None:
    """Each bar has its reason, told in plain words; a cell of text is not repeated."""
    rejected = judged(found).rejected[0]
    assert rejected.reason == reason
    assert detail in rejected.detail
    assert "secret" not in rejected.detail


def test_the_first_bar_counts() -> None:
    """A feature without any value is incomplete rather than constant."""
    assert reasons(judged(evidence(null_ratio=1.0, distinct_count=0, top_share=0.0))) == {"f0": "incomplete"}


def test_thresholds_are_ordered() -> None:
    """Whatever high lets pass, medium does, and whatever medium does, low does."""
    for stricter, laxer in (("high", "medium"), ("medium", "low")):
        high, low = BARS[stricter], BARS[laxer]  # type: ignore[index] - both are thresholds
        assert high.min_score > low.min_score
        for field in ("max_null_ratio", "max_non_finite_ratio", "max_top_share", "max_correlation"):
            assert getattr(high, field) < getattr(low, field)
        assert high.max_target_association < low.max_target_association
        assert high.max_drift is not None
        assert low.max_drift is None or high.max_drift < low.max_drift


def test_a_rare_flag_passes_low_and_fails_high() -> None:
    """One in 200 is worth having when little is asked for."""
    rare = evidence(dtype="integer", distinct_count=2, top_share=0.995)
    assert reasons(judged(rare, threshold="low")) == {}
    assert reasons(judged(rare, threshold="high")) == {"f0": "constant"}


def test_a_calendar_does_not_drift() -> None:
    """Months differ between the halves of a year by their meaning; that is not held against them."""
    later = evidence(drift=9.0)
    assert reasons(judged(later, threshold="high", operation=op.DatePartOf("at", "month"))) == {}
    assert reasons(judged(later, threshold="high")) == {"f0": "unstable"}


def test_of_two_that_say_the_same_the_earlier_stays() -> None:
    """The later one is redundant, and its detail names the other."""
    result = judged(evidence(), evidence(correlations={"f0": 0.995}))
    assert reasons(result) == {"f1": "redundant"}
    assert "f0" in result.rejected[0].detail


def test_a_clearly_better_one_takes_the_place() -> None:
    """The later of two stays when the earlier has many nulls."""
    result = judged(evidence(null_ratio=0.5), evidence(correlations={"f0": 0.995}))
    assert reasons(result) == {"f0": "redundant"}
    assert [feature.name for feature in result.accepted] == ["f1"]


def test_a_rejected_feature_makes_nothing_redundant() -> None:
    """What repeats a constant or leaking feature is judged on its own."""
    result = judged(evidence(target_association=1.0), evidence(correlations={"f0": 1.0}))
    assert reasons(result) == {"f0": "leakage"}
    assert result.accepted[0].quality_dimensions["redundancy"] == 1.0


def test_correlation_below_the_bar_lowers_both_scores() -> None:
    """Two features that go together are kept, each with its redundancy in view, whichever comes first."""
    result = judged(evidence(), evidence(correlations={"f0": 0.9}))
    assert [feature.quality_dimensions["redundancy"] for feature in result.accepted] == [
        pytest.approx(0.5),
        pytest.approx(0.5),
    ]


def test_the_score_is_the_weighted_mean_of_what_was_measured() -> None:
    """Every dimension counts by its weight; one that was not measured is left out."""
    whole = judged(evidence(null_ratio=0.2, top_share=0.9, drift=0.3, target_association=0.75)).accepted[0]
    expected = {
        "completeness": 0.8,
        "validity": 1.0,
        "variability": 0.5,
        "redundancy": 1.0,
        "stability": 0.5,
        "leakage": 0.5,
    }
    assert whole.quality_dimensions == pytest.approx(expected)
    assert sum(WEIGHTS.values()) == pytest.approx(1.0)
    assert whole.quality_score == pytest.approx(0.30 * 0.8 + 0.25 * 0.5 + 0.15 + 0.10 + 0.05 + 0.05)


def test_many_small_faults_fall_below_the_threshold() -> None:
    """A feature that clears every bar may still score too little."""
    poor = evidence(null_ratio=0.2, top_share=0.95, distinct_count=2, target_association=0.9, drift=0.25)
    rejected = judged(poor, threshold="high").rejected[0]
    assert rejected.reason == "below_threshold"
    assert rejected.quality_score < BARS["high"].min_score


def test_the_summary_is_over_the_accepted_alone() -> None:
    """Scores and dimensions of the whole are means of what is published."""
    result = judged(evidence(null_ratio=0.2), evidence(), evidence(null_ratio=1.0))
    assert result.quality.dimensions["completeness"] == pytest.approx(0.9)
    assert result.quality.score == pytest.approx(sum(one.quality_score for one in result.accepted) / 2)
    assert "leakage" not in result.quality.dimensions


def test_no_feature_left_is_an_error_with_each_reason() -> None:
    """The client learns why each of the features was rejected."""
    result = judged(evidence(null_ratio=1.0), evidence(distinct_count=1, top_share=1.0))
    assert result.quality.score == 0.0
    with pytest.raises(QualityTooLow) as caught:
        require_features(result)
    assert [error.field for error in caught.value.errors] == ["features.f0", "features.f1"]
    assert "'medium'" in caught.value.message


def test_one_feature_left_is_enough() -> None:
    """An assessment with an accepted feature passes."""
    result = judged(evidence(), evidence(null_ratio=1.0))
    require_features(result)
    assert len(result.accepted) == 1
