"""Propose entity features about the rows as such: how many, how often, since when, at which hours."""

from __future__ import annotations

from collections.abc import Iterator

from service.agents.builtin.candidates import ASIDE, RELATED, Candidate, days, days_slug, describe
from service.agents.builtin.columns import ColumnMatch, entity_meaning
from service.agents.builtin.lexicon import Intent
from service.agents.builtin.planning_context import PlanningContext
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
"""Windows in days of recent shares when the sentence names no window."""


def activity_candidates(context: PlanningContext) -> Iterator[Candidate]:
    """Propose every feature about an entity's rows that reads no other column."""
    yield from _activity(context)
    if context.time is not None:
        yield from _in_time(context, context.time.name)
        yield from _hours(context, context.time)


def _activity(context: PlanningContext) -> Iterator[Candidate]:
    selected = bool(context.conditions) and not context.reading.broad
    unspecific = not selected and not any(event.mentioned and event.where for event in context.events)
    score = context.score(0.95, "count", "frequency") if unspecific else 0.9
    rows = next((event.name for event in context.events if not event.where and not event.counter), "row")
    windowed = bool(context.reading.windows and context.time)
    yield Candidate(
        Count(), f"{rows}_count",
        describe(f"Rows of each {context.who}{', each a purchase' if rows != 'row' else ''}."),
        min(score, RELATED) if windowed and not context.reading.broad else score, "count", "rows", "activity",
    )  # fmt: skip
    for window in context.reading.windows if context.time else ():
        yield Candidate(
            Count(last_days=window.days),
            f"{rows}_count_{days_slug(window.days)}",
            describe(f"Rows of each {context.who} in the last {days(window.days)}."),
            score if unspecific else ASIDE,
            "count",
            "rows",
        )


def _in_time(context: PlanningContext, time: str) -> Iterator[Candidate]:
    who, purposes = context.who, context.reading.purposes
    leaving = RELATED if purposes & {"churn", "engagement", "value", "recommendation"} else 0.0
    no_event_named = not any(event.mentioned and event.where for event in context.events)
    variants: tuple[tuple[AnyOperation, str, str, Intent, float, str], ...] = (
        (Recency(time), "days_since_last_activity", f"Days from the last row of each {who} to the latest {time}.",
         "recency", 0.9, "recency"),
        (EventsPerDay(time), "rows_per_day", f"Rows for each day since the first row of each {who}, by {time}.",
         "frequency", 0.5, "activity"),
        (MeanGap(time), "mean_days_between_rows", f"Mean days between consecutive rows of each {who}, by {time}.",
         "gap", 0.6, "gap"),
        (Tenure(time), "tenure_days", f"Days from the first row of each {who} to the latest {time}.",
         "tenure", 0.55, "tenure"),
        (ActiveDays(time), "active_days", f"Distinct days of {time} on which each {who} has a row.",
         "days" if context.reading.says("days") else "frequency", 0.7, "activity"),
        (ActiveSpan(time), "active_span_days", f"Days from the first row of each {who} to its last, by {time}.",
         "tenure", 0.2, "tenure"),
    )  # fmt: skip
    is_session = context.entity is not None and entity_meaning(context.entity) == "session"
    for operation, name, words, intent, usual, alike in variants:
        # A session lasts under an hour: its length is informative, its age in days and its gaps are not.
        base = usual if not is_session else 0.9 if isinstance(operation, ActiveSpan) else 0.1
        score = context.score(base, intent) if no_event_named or intent in {"recency", "tenure", "days"} else base
        boosted = max(score, leaving + base - 1) if base > 0.5 and leaving else score  # noqa: PLR2004 - the common ones
        yield Candidate(operation, name, describe(words), boosted, alike, "time", alike)
    windows = tuple(window.days for window in context.reading.windows) or RECENT
    for window in windows:
        yield Candidate(
            RecentShare(time, window),
            f"share_last_{days_slug(window)}",
            describe(f"Share of each {who}'s rows in the last {days(window)} of {time}."),
            RELATED + 0.5 if context.reading.says("trend") else max(0.45, leaving - 0.6),
            "trend",
            "time",
            "recent_share",
        )


def has_hours(match: ColumnMatch) -> bool:
    """Check whether a datetime column holds times of day and not only dates."""
    ends = (match.column.minimum, match.column.maximum)
    return any(isinstance(end, str) and "T" in end and "T00:00:00" not in end for end in ends)


def _hours(context: PlanningContext, time: ColumnMatch) -> Iterator[Candidate]:
    if has_hours(time):
        for name, words, start, end, base in (
            ("night_share", "at night, from 22 to 6 h", 22, 6, 0.35),
            ("evening_share", "in the evening, from 18 to 22 h", 18, 22, 0.2),
            ("morning_share", "in the morning, from 6 to 12 h", 6, 12, 0.15),
        ):
            mentioned = stem(name.partition("_")[0]) in context.reading.sentence
            yield Candidate(
                HourShare(time.name, start, end),
                name,
                describe(f"Share of each {context.who}'s rows {words}, by {time.name}."),
                context.score(base, "hour") + 0.5 * mentioned,
                "hours",
                "time",
            )
    yield Candidate(
        WeekendShare(time.name),
        "weekend_share",
        describe(f"Share of each {context.who}'s rows on Saturday or Sunday, by {time.name}."),
        context.score(0.4, "weekday"),
        "hours",
        "time",
    )
