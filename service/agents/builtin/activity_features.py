"""Candidates of the entity grain about its rows as such: how many, how often, since when, at which hours."""

from __future__ import annotations

from collections.abc import Iterator

from service.agents.builtin.candidates import ASIDE, RELATED, Candidate, days, days_slug, describe
from service.agents.builtin.lexicon import Intent
from service.agents.builtin.scene import Scene
from service.agents.builtin.sheet import Seen, entity_meaning
from service.agents.words import stem
from service.features.operations import (
    ActiveDays,
    ActiveSpan,
    AnyOperation,
    Count,
    EventsPerDay,
    HourShare,
    MeanGap,
    Recency,
    RecentShare,
    Tenure,
    WeekendShare,
)

RECENT = (7.0, 30.0)
"""Windows in days of recent shares when the sentence gives none."""


def activity_candidates(scene: Scene) -> Iterator[Candidate]:
    """Everything about the rows of an entity, whatever is in them."""
    yield from _activity(scene)
    if scene.time is not None:
        yield from _in_time(scene, scene.time.name)
        yield from _hours(scene, scene.time)


def _activity(scene: Scene) -> Iterator[Candidate]:
    selected = bool(scene.conditions) and not scene.reading.broad
    unspecific = not selected and not any(event.spoken and event.where for event in scene.events)
    score = scene.score(0.95, "count", "frequency") if unspecific else 0.9
    rows = next((event.name for event in scene.events if not event.where and not event.counter), "row")
    windowed = bool(scene.reading.windows and scene.time)
    yield Candidate(
        Count(), f"{rows}_count", describe(f"Rows of each {scene.who}{', each a purchase' if rows != 'row' else ''}."),
        min(score, RELATED) if windowed and not scene.reading.broad else score, "count", "rows", "activity",
    )  # fmt: skip
    for window in scene.reading.windows if scene.time else ():
        yield Candidate(
            Count(last_days=window.days),
            f"{rows}_count_{days_slug(window.days)}",
            describe(f"Rows of each {scene.who} in the last {days(window.days)}."),
            score if unspecific else ASIDE,
            "count",
            "rows",
        )


def _in_time(scene: Scene, time: str) -> Iterator[Candidate]:
    who, purposes = scene.who, scene.reading.purposes
    leaving = RELATED if purposes & {"churn", "engagement", "value", "recommendation"} else 0.0
    unspoken = not any(event.spoken and event.where for event in scene.events)
    made: tuple[tuple[AnyOperation, str, str, Intent, float, str], ...] = (
        (Recency(time), "days_since_last_activity", f"Days from the last row of each {who} to the latest {time}.",
         "recency", 0.9, "recency"),
        (EventsPerDay(time), "rows_per_day", f"Rows for each day since the first row of each {who}, by {time}.",
         "frequency", 0.5, "activity"),
        (MeanGap(time), "mean_days_between_rows", f"Mean days between consecutive rows of each {who}, by {time}.",
         "gap", 0.6, "gap"),
        (Tenure(time), "tenure_days", f"Days from the first row of each {who} to the latest {time}.",
         "tenure", 0.55, "tenure"),
        (ActiveDays(time), "active_days", f"Distinct days of {time} on which each {who} has a row.",
         "days" if scene.reading.says("days") else "frequency", 0.7, "activity"),
        (ActiveSpan(time), "active_span_days", f"Days from the first row of each {who} to its last, by {time}.",
         "tenure", 0.2, "tenure"),
    )  # fmt: skip
    brief = scene.entity is not None and entity_meaning(scene.entity) == "session"
    for operation, name, words, intent, usual, alike in made:
        # A session is over within the hour: its length tells, its age in days and its gaps do not.
        base = usual if not brief else 0.9 if isinstance(operation, ActiveSpan) else 0.1
        score = scene.score(base, intent) if unspoken or intent in {"recency", "tenure", "days"} else base
        boosted = max(score, leaving + base - 1) if base > 0.5 and leaving else score  # noqa: PLR2004 - the common ones
        yield Candidate(operation, name, describe(words), boosted, alike, "time", alike)
    windows = tuple(window.days for window in scene.reading.windows) or RECENT
    for window in windows:
        yield Candidate(
            RecentShare(time, window),
            f"share_last_{days_slug(window)}",
            describe(f"Share of each {who}'s rows in the last {days(window)} of {time}."),
            RELATED + 0.5 if scene.reading.says("trend") else max(0.45, leaving - 0.6),
            "trend",
            "time",
            "recent_share",
        )


def has_hours(seen: Seen) -> bool:
    """Whether a datetime column tells times of day rather than dates."""
    ends = (seen.column.minimum, seen.column.maximum)
    return any(isinstance(end, str) and "T" in end and "T00:00:00" not in end for end in ends)


def _hours(scene: Scene, time: Seen) -> Iterator[Candidate]:
    if has_hours(time):
        for name, words, start, end, base in (
            ("night_share", "at night, from 22 to 6 h", 22, 6, 0.35),
            ("evening_share", "in the evening, from 18 to 22 h", 18, 22, 0.2),
            ("morning_share", "in the morning, from 6 to 12 h", 6, 12, 0.15),
        ):
            mentioned = stem(name.partition("_")[0]) in scene.reading.words
            yield Candidate(
                HourShare(time.name, start, end),
                name,
                describe(f"Share of each {scene.who}'s rows {words}, by {time.name}."),
                scene.score(base, "hour") + 0.5 * mentioned,
                "hours",
                "time",
            )
    yield Candidate(
        WeekendShare(time.name),
        "weekend_share",
        describe(f"Share of each {scene.who}'s rows on Saturday or Sunday, by {time.name}."),
        scene.score(0.4, "weekday"),
        "hours",
        "time",
    )
