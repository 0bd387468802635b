"""Candidates about kinds of events within an entity: counts, rates between steps, recency, what was bought."""

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
from service.agents.builtin.events import Event, funnel
from service.agents.builtin.scene import Scene
from service.agents.builtin.sheet import Seen, means
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
"""Numerator, denominator, name and words of the rates that a funnel is measured by."""
SPENT: tuple[tuple[AggregateFunction, str, float], ...] = (("sum", "total", 0.7), ("mean", "average", 0.6))
"""Statistics of what a purchase amounts to, their words and ranks."""
RECENT_DAYS = 7.0
"""The window of a recent share when the sentence gives none."""


def event_candidates(scene: Scene) -> Iterator[Candidate]:
    """Everything about events, when the dataset tells any."""
    for event in scene.events:
        if event.counter is None and event.where:
            yield from _counted(scene, event)
            yield from _timed(scene, event)
            yield from _valued(scene, event)
    yield from _step_rates(scene)
    yield from _shares(scene)


def _counted(scene: Scene, event: Event) -> Iterator[Candidate]:
    reading = scene.reading
    counted = reading.broad or reading.says("count", "frequency") or not reading.intents
    beside = NAMED if reading.broad or reading.says("rate") else ASIDE
    score = (ASKED if counted else RELATED) if event.spoken else beside if _beside_spoken(scene, event) else 0.8
    whole = min(score, RELATED) if reading.windows and scene.time and not reading.broad else score
    yield Candidate(
        Count(event.where),
        f"{event.name}_count",
        describe(f"{capital(plural(event.name))} of each {scene.who}: {event.words}."),
        whole,
        "count",
        event.name,
        f"count:{event.name}",
    )
    for window in reading.windows if scene.time else ():
        yield Candidate(
            Count(event.where, window.days),
            f"{event.name}_count_{days_slug(window.days)}",
            describe(
                f"{capital(plural(event.name))} of each {scene.who} in the last {days(window.days)}: {event.words}."
            ),
            score + 0.5 if event.spoken else score,
            "count",
            event.name,
        )


def _beside_spoken(scene: Scene, event: Event) -> bool:
    """A step of the funnel completes the picture when another step is asked about."""
    steps = {step.name for step in funnel(scene.events).values()}
    return event.name in steps and any(other.spoken and other.name in steps for other in scene.events)


def _timed(scene: Scene, event: Event) -> Iterator[Candidate]:
    if scene.time is None:
        return
    time, reading = scene.time.name, scene.reading
    yield Candidate(
        Recency(time, event.where),
        f"days_since_last_{event.name}",
        describe(f"Days from the last {event.name} of each {scene.who} ({event.words}) to the latest {time}."),
        ASKED if event.spoken and reading.says("recency") else RELATED - 0.1 if event.spoken else 0.55,
        "recency",
        event.name,
    )
    yield Candidate(
        MeanGap(time, event.where),
        f"mean_days_between_{event.name}",
        describe(f"Mean days between consecutive {plural(event.name)} of each {scene.who}: {event.words}, by {time}."),
        ASKED if event.spoken and reading.says("gap") else 0.3,
        "gap",
        event.name,
    )
    yield Candidate(
        EventsPerDay(time, event.where),
        f"{event.name}_per_day",
        describe(f"{capital(plural(event.name))} for each day since the first row of each {scene.who}: {event.words}."),
        ASKED if event.spoken and reading.says("frequency") else 0.25,
        "frequency",
        event.name,
        f"count:{event.name}",
    )
    window = reading.windows[0].days if reading.windows else RECENT_DAYS
    yield Candidate(
        RecentShare(time, window, event.where),
        f"{event.name}_share_last_{days_slug(window)}",
        describe(f"Share of each {scene.who}'s {plural(event.name)} in the last {days(window)}: {event.words}."),
        RELATED - 0.8 if event.spoken else 0.3,
        "trend",
        event.name,
    )


def _valued(scene: Scene, event: Event) -> Iterator[Candidate]:
    """Money and things of purchases; distinct things of other events."""
    if "purchase" in event.meanings:
        for seen in scene.numbers:
            if means(seen, "money", "quantity"):
                wanted = scene.reading.says("monetary") or scene.named(seen)
                for function, words, base in SPENT:
                    yield _measure(scene, event, seen, (function, words), _money_score(scene, event, wanted, base))
    for seen in scene.sheet.keys:
        if seen.name not in scene.others and means(seen, "item"):
            yield Candidate(
                CountDistinct(seen.name, event.where),
                f"distinct_{seen.slug}_{event.name}",
                describe(f"Distinct {seen.name} among each {scene.who}'s {plural(event.name)}: {event.words}."),
                RELATED - 0.5 if event.spoken else 0.4,
                "distinct",
                seen.name,
                f"count:{event.name}",
            )


def _money_score(scene: Scene, event: Event, wanted: bool, base: float) -> float:  # noqa: FBT001 - private
    if wanted:
        return ASKED + base
    return RELATED + base - 1 if event.spoken or scene.reading.purposes else base


def _measure(
    scene: Scene, event: Event, seen: Seen, statistic: tuple[AggregateFunction, str], score: float
) -> Candidate:
    function, words = statistic
    return Candidate(
        Aggregate(seen.name, function, event.where),
        f"{words}_{seen.slug}_{event.name}",
        describe(f"{capital(words)} {seen.name} over each {scene.who}'s {plural(event.name)}: {event.words}."),
        score,
        "money",
        seen.name,
    )


def _step_rates(scene: Scene) -> Iterator[Candidate]:
    steps = funnel(scene.events)
    for upper, lower, name, words in STEP_RATES:
        numerator, denominator = steps.get(upper), steps.get(lower)
        if numerator is None:
            continue
        if denominator is None:
            denominator = _fallback(upper, steps)
        if denominator is not None and denominator != numerator:
            rated = scene.reading.broad or scene.reading.says("rate", "ratio")
            score = ASKED + 0.6 if numerator.spoken and rated else ASIDE if denominator.spoken else 0.75
            primary = name in {"click_through_rate", "conversion_rate"}
            yield from _rate(scene, numerator, denominator, (name, words, score if primary else min(score, 3.4)))


def _fallback(upper: str, steps: dict[str, Event]) -> Event | None:
    """Without the step below, an event is set against all rows of the entity: each was an occasion for it."""
    first = {"click": ("impression",), "purchase": ("click", "impression", "cart")}.get(upper, ())
    if not first or (upper == "purchase" and "impression" in steps and "click" not in steps):
        return None
    everything = Event("row", frozenset())
    return None if any(step in steps for step in first) or not steps[upper].where else everything


def _rate(scene: Scene, upper: Event, lower: Event, said: tuple[str, str, float]) -> Iterator[Candidate]:
    name, words, score = said
    if upper.counter and lower.counter:
        yield Candidate(
            RatioOfSums(upper.counter, lower.counter),
            name,
            describe(f"{capital(words)} of each {scene.who}: sum of {upper.counter} over sum of {lower.counter}."),
            score,
            "rate",
            upper.name,
        )
    elif not upper.counter and not lower.counter:
        parts = [f"{plural(event.name)} ({event.words})" for event in (upper, lower)]
        text = f"{capital(words)} of each {scene.who}: {' over '.join(parts)}"
        yield Candidate(Rate(upper.where, lower.where), name, describe(f"{text}."), score, "rate", upper.name)
        for window in scene.reading.windows if scene.time else ():
            yield Candidate(
                Rate(upper.where, lower.where, window.days),
                f"{name}_{days_slug(window.days)}",
                describe(f"{text}, in the last {days(window.days)}."),
                score - 0.1,
                "rate",
                upper.name,
            )


def _shares(scene: Scene) -> Iterator[Candidate]:
    """The share of an entity's rows that are such an event: bounces, refunds, errors, any kind that is named."""
    for event in scene.events:
        if not event.where:
            continue
        outside = not event.meanings & {"impression", "click", "purchase"}
        asked = event.spoken and (scene.reading.says("rate", "mean", "ratio") or outside)
        yield _share(scene, event.name, event.where, event.words, (NAMED if outside else ASIDE) if asked else 0.35)


def _share(scene: Scene, name: str, where: Where, words: str, score: float) -> Candidate:
    return Candidate(
        Rate(where), f"{name}_share", describe(f"Share of each {scene.who}'s rows that are {plural(name)}: {words}."),
        score, "rate", name,
    )  # fmt: skip
