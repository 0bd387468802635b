"""Propose entity features about kinds of events: counts, rates between funnel steps, recency, purchase amounts."""

from __future__ import annotations

from collections.abc import Iterator

from service.agents.builtin.candidates import (
    ASIDE,
    ASKED,
    NAMED,
    RELATED,
    Candidate,
    capital,
    days,
    days_slug,
    describe,
    plural,
)
from service.agents.builtin.columns import ColumnMatch, has_meaning
from service.agents.builtin.events import Event, funnel
from service.agents.builtin.planning_context import PlanningContext
from service.features.operations import (
    Aggregate,
    AggregateFunction,
    Count,
    CountDistinct,
    EventsPerDay,
    MeanGap,
    Rate,
    RatioOfSums,
    Recency,
    RecentShare,
    Where,
)

STEP_RATES = (
    ("click", "impression", "click_through_rate", "click-through rate"),
    ("purchase", "click", "conversion_rate", "conversion rate"),
    ("cart", "impression", "add_to_cart_rate", "add-to-cart rate"),
    ("purchase", "cart", "cart_conversion_rate", "conversion rate of carts"),
    ("purchase", "impression", "purchase_rate", "purchases for each impression"),
)
"""Numerator, denominator, name and words of the usual rates of a funnel."""
SPENT: tuple[tuple[AggregateFunction, str, float], ...] = (("sum", "total", 0.7), ("mean", "average", 0.6))
"""Statistics of purchase amounts, their words and scores."""
RECENT_DAYS = 7.0
"""Window in days of a recent share when the sentence names no window."""


def event_candidates(context: PlanningContext) -> Iterator[Candidate]:
    """Propose every feature about events, if the dataset has any."""
    for event in context.events:
        if event.counter is None and event.where:
            yield from _counted(context, event)
            yield from _timed(context, event)
            yield from _valued(context, event)
    yield from _step_rates(context)
    yield from _shares(context)


def _counted(context: PlanningContext, event: Event) -> Iterator[Candidate]:
    reading = context.reading
    counted = reading.broad or reading.says("count", "frequency") or not reading.intents
    beside = NAMED if reading.broad or reading.says("rate") else ASIDE
    score = (ASKED if counted else RELATED) if event.mentioned else beside if _completes_funnel(context, event) else 0.8
    whole = min(score, RELATED) if reading.windows and context.time and not reading.broad else score
    yield Candidate(
        Count(event.where),
        f"{event.name}_count",
        describe(f"{capital(plural(event.name))} of each {context.who}: {event.words}."),
        whole,
        "count",
        event.name,
        f"count:{event.name}",
    )
    for window in reading.windows if context.time else ():
        yield Candidate(
            Count(event.where, window.days),
            f"{event.name}_count_{days_slug(window.days)}",
            describe(
                f"{capital(plural(event.name))} of each {context.who} in the last {days(window.days)}: {event.words}."
            ),
            score + 0.5 if event.mentioned else score,
            "count",
            event.name,
        )


def _completes_funnel(context: PlanningContext, event: Event) -> bool:
    """Check whether another step of the funnel is asked for, so that this step completes the picture."""
    steps = {step.name for step in funnel(context.events).values()}
    return event.name in steps and any(other.mentioned and other.name in steps for other in context.events)


def _timed(context: PlanningContext, event: Event) -> Iterator[Candidate]:
    if context.time is None:
        return
    time, reading = context.time.name, context.reading
    yield Candidate(
        Recency(time, event.where),
        f"days_since_last_{event.name}",
        describe(f"Days from the last {event.name} of each {context.who} ({event.words}) to the latest {time}."),
        ASKED if event.mentioned and reading.says("recency") else RELATED - 0.1 if event.mentioned else 0.55,
        "recency",
        event.name,
    )
    yield Candidate(
        MeanGap(time, event.where),
        f"mean_days_between_{event.name}",
        describe(
            f"Mean days between consecutive {plural(event.name)} of each {context.who}: {event.words}, by {time}."
        ),
        ASKED if event.mentioned and reading.says("gap") else 0.3,
        "gap",
        event.name,
    )
    yield Candidate(
        EventsPerDay(time, event.where),
        f"{event.name}_per_day",
        describe(
            f"{capital(plural(event.name))} for each day since the first row of each {context.who}: {event.words}."
        ),
        ASKED if event.mentioned and reading.says("frequency") else 0.25,
        "frequency",
        event.name,
        f"count:{event.name}",
    )
    window = reading.windows[0].days if reading.windows else RECENT_DAYS
    yield Candidate(
        RecentShare(time, window, event.where),
        f"{event.name}_share_last_{days_slug(window)}",
        describe(f"Share of each {context.who}'s {plural(event.name)} in the last {days(window)}: {event.words}."),
        RELATED - 0.8 if event.mentioned else 0.3,
        "trend",
        event.name,
    )


def _valued(context: PlanningContext, event: Event) -> Iterator[Candidate]:
    """Propose amounts and items of purchases, and distinct items of other events."""
    if "purchase" in event.meanings:
        for match in context.numbers:
            if has_meaning(match, "money", "quantity"):
                wanted = context.reading.says("monetary") or context.named(match)
                for function, words, base in SPENT:
                    yield _measure(context, event, match, (function, words), _money_score(context, event, wanted, base))
    for match in context.columns.keys:
        if match.name not in context.key_names and has_meaning(match, "item"):
            yield Candidate(
                CountDistinct(match.name, event.where),
                f"distinct_{match.slug}_{event.name}",
                describe(f"Distinct {match.name} among each {context.who}'s {plural(event.name)}: {event.words}."),
                RELATED - 0.5 if event.mentioned else 0.4,
                "distinct",
                match.name,
                f"count:{event.name}",
            )


def _money_score(context: PlanningContext, event: Event, wanted: bool, base: float) -> float:  # noqa: FBT001 - private
    if wanted:
        return ASKED + base
    return RELATED + base - 1 if event.mentioned or context.reading.purposes else base


def _measure(
    context: PlanningContext, event: Event, match: ColumnMatch, statistic: tuple[AggregateFunction, str], score: float
) -> Candidate:
    function, words = statistic
    return Candidate(
        Aggregate(match.name, function, event.where),
        f"{words}_{match.slug}_{event.name}",
        describe(f"{capital(words)} {match.name} over each {context.who}'s {plural(event.name)}: {event.words}."),
        score,
        "money",
        match.name,
    )


def _step_rates(context: PlanningContext) -> Iterator[Candidate]:
    steps = funnel(context.events)
    for upper, lower, name, words in STEP_RATES:
        numerator, denominator = steps.get(upper), steps.get(lower)
        if numerator is None:
            continue
        if denominator is None:
            denominator = _fallback(upper, steps)
        if denominator is not None and denominator != numerator:
            rated = context.reading.broad or context.reading.says("rate", "ratio")
            score = ASKED + 0.6 if numerator.mentioned and rated else ASIDE if denominator.mentioned else 0.75
            primary = name in {"click_through_rate", "conversion_rate"}
            yield from _rate(context, numerator, denominator, (name, words, score if primary else min(score, 3.4)))


def _fallback(upper: str, steps: dict[str, Event]) -> Event | None:
    """Choose the denominator when the step below is missing: all rows of the entity, as each was an opportunity."""
    first = {"click": ("impression",), "purchase": ("click", "impression", "cart")}.get(upper, ())
    if not first or (upper == "purchase" and "impression" in steps and "click" not in steps):
        return None
    everything = Event("row", frozenset())
    return None if any(step in steps for step in first) or not steps[upper].where else everything


def _rate(context: PlanningContext, upper: Event, lower: Event, said: tuple[str, str, float]) -> Iterator[Candidate]:
    name, words, score = said
    if upper.counter and lower.counter:
        yield Candidate(
            RatioOfSums(upper.counter, lower.counter),
            name,
            describe(f"{capital(words)} of each {context.who}: sum of {upper.counter} over sum of {lower.counter}."),
            score,
            "rate",
            upper.name,
        )
    elif not upper.counter and not lower.counter:
        parts = [f"{plural(event.name)} ({event.words})" for event in (upper, lower)]
        text = f"{capital(words)} of each {context.who}: {' over '.join(parts)}"
        yield Candidate(Rate(upper.where, lower.where), name, describe(f"{text}."), score, "rate", upper.name)
        for window in context.reading.windows if context.time else ():
            yield Candidate(
                Rate(upper.where, lower.where, window.days),
                f"{name}_{days_slug(window.days)}",
                describe(f"{text}, in the last {days(window.days)}."),
                score - 0.1,
                "rate",
                upper.name,
            )


def _shares(context: PlanningContext) -> Iterator[Candidate]:
    """Propose the share of an entity's rows that are such an event: bounces, refunds, errors, any named kind."""
    for event in context.events:
        if not event.where:
            continue
        outside = not event.meanings & {"impression", "click", "purchase"}
        asked = event.mentioned and (context.reading.says("rate", "mean", "ratio") or outside)
        yield _share(context, event.name, event.where, event.words, (NAMED if outside else ASIDE) if asked else 0.35)


def _share(context: PlanningContext, name: str, where: Where, words: str, score: float) -> Candidate:
    return Candidate(
        Rate(where), f"{name}_share", describe(f"Share of each {context.who}'s rows that are {plural(name)}: {words}."),
        score, "rate", name,
    )  # fmt: skip
