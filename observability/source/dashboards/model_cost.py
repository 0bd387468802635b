"""Model and cost: what models do, how long they take, what they cost, and what is done when they fail."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import units

from observability.source.dashboards import links
from observability.source.dashboards.board import Board, Row, variable
from observability.source.dashboards.logs_and_traces import of_model
from observability.source.dashboards.names import MODEL
from observability.source.dashboards.panels import Look, Query, lines, number, percentiles, spread, states, verdict
from observability.source.dashboards.promql import counted, over_range, per_minute, quantile, rate, series, share, total

CALLS = "model_requests_total"
DURATION = "model_request_duration_seconds"
UNSEEN = "Not known: nothing was counted yet"
UNPRICED = "Not known: the models called have no price, or nothing was counted yet"
CHOSEN = 'model=~"$model"'
STATUSES = {"success": "green", "error": "red", "timeout": "orange", "rate_limited": "yellow"}
BREAKER = {"0": ("closed", "green"), "1": ("half-open", "yellow"), "2": ("open", "red")}
TRACES = (
    links.traces("Traces of failed attempts", operation="model.attempt", tags="error=true"),
    links.logs("Log lines of failed calls", "| json | message =~ `model .*`"),
)
SLOW = (
    links.traces("Slow calls", operation="model.attempt", slower="5s"),
    links.logs("Log lines of models", "| json | message =~ `model .*`"),
)
BUDGETS = (links.logs("Log lines", "| json | message =~ `model budget.*`"),)


def board() -> Board:
    """The board."""
    return Board(
        MODEL,
        "Models and cost",
        "Calls, durations, tokens and cost of each model; retries, fallbacks and breakers; the plan cache; budgets.",
        [
            Row("Calls", [*headline(), calls(), failures(), durations(), heatmap()]),
            Row("Tokens and cost", [tokens(), cost(), unpriced()]),
            Row("When a model fails", [retries(), fallbacks(), breakers(), transitions(), corrections()]),
            Row("Plan cache and budgets", [hits(), lookups(), decisions(), warnings()]),
            of_model(),
        ],
        [variable("model", "Model", 'label_values(model_requests_total{job=~"$job"}, model)')],
    )


def headline() -> list[model.Panel]:
    """Breakers as a word; calls, failures, cost and tokens as numbers."""
    failed = total(rate(CALLS, CHOSEN, 'status!="success"'), "model")
    return [
        verdict(
            "Circuit breakers now",
            "The worst of the chosen models' breakers, as any process sees it. Open: that model is left alone, and the "
            "next one plans.",
            [Query(f"max({series('model_breaker_state', CHOSEN)})", "worst")],
            Look(units.Short, 4, 4, words=BREAKER, links=TRACES, empty=UNSEEN),
        ),
        number(
            "Calls",
            "Calls of the chosen models a minute, retries included.",
            [Query(total(per_minute(CALLS, CHOSEN)), "calls")],
            Look(units.RequestsPerMinute, 5, 4, links=TRACES, empty=UNSEEN),
        ),
        number(
            "Failed calls of the worst model",
            "Share of its calls that failed, timed out or were refused for their rate. While its breaker is open it is "
            "not called.",
            [Query(f"max({share(failed, total(rate(CALLS, CHOSEN), 'model'))})", "failed")],
            Look(
                units.PercentUnit,
                5,
                4,
                thresholds={0.05: "orange", 0.25: "red"},
                links=TRACES,
                empty="No calls just now",
            ),
        ),
        number(
            "Spent in the time range",
            "Cost of the calls in the time range, where the model's price is known.",
            [Query(total(_known("increase({})", "$__range")), "spent")],
            Look(units.Dollars, 5, 4, decimals=4, links=SLOW, empty=UNPRICED),
        ),
        number(
            "Tokens in the time range",
            "Tokens sent to and received from the chosen models in the time range.",
            [Query(total(over_range("model_tokens_total", CHOSEN), "type"), "{{type}}")],
            Look(units.Short, 5, 4, links=SLOW, empty=UNSEEN),
        ),
    ]


def calls() -> model.Panel:
    """Calls by status."""
    return lines(
        "Calls by outcome",
        "Calls a minute by how they ended.",
        [Query(counted(CALLS, CHOSEN, by=("status",)), "{{status}}")],
        Look(units.RequestsPerMinute, 6, stacked=True, colours=STATUSES, links=TRACES),
    )


def failures() -> model.Panel:
    """Share failed, by model."""
    failed = total(rate(CALLS, CHOSEN, 'status!="success"'), "model")
    return lines(
        "Failed calls by model",
        "Share of each model's calls that failed. Above 5 % for ten minutes it warns.",
        [Query(share(failed, total(rate(CALLS, CHOSEN), "model")), "{{model}}")],
        Look(units.PercentUnit, 6, thresholds={0.05: "orange", 0.25: "red"}, links=TRACES),
    )


def durations() -> model.Panel:
    """Duration by model."""
    return lines(
        "Duration by model",
        "How long half of the calls, and 95 of 100, took at most. Each dot is a call whose trace was kept.",
        percentiles(lambda q: quantile(q, DURATION, CHOSEN, by=("model",)), 0.5, 0.95, of="{{model}}"),
        Look(units.Seconds, 6, thresholds={10: "orange", 60: "red"}, links=SLOW),
    )


def heatmap() -> model.Panel:
    """How durations are spread."""
    return spread(
        "Spread of durations",
        "How many calls a minute took how long.",
        Query(total(per_minute(f"{DURATION}_bucket", CHOSEN), "le"), "{{le}}", exemplars=True),
        Look(units.Seconds, 6, links=SLOW),
        counted=units.RequestsPerMinute,
    )


def tokens() -> model.Panel:
    """Tokens by model and direction."""
    return lines(
        "Tokens a minute",
        "Tokens a minute by model: sent (input) and received (output).",
        [Query(counted("model_tokens_total", CHOSEN, by=("model", "type")), "{{type}} {{model}}")],
        Look(units.Short, stacked=True, links=SLOW),
    )


def _known(growth: str, window: str) -> str:
    """Growth of the cost by model; of one that cost nothing while calls had no price, nothing is known."""
    cost, unpriced = (
        total(growth.format(f"{series(name, CHOSEN)}[{window}]"), "model")
        for name in ("model_cost_usd_total", "model_unpriced_requests_total")
    )
    return f"{cost} > 0 or {cost} unless {unpriced} > 0"


def cost() -> model.Panel:
    """Cost an hour."""
    return lines(
        "Cost an hour",
        "What an hour would cost at the pace of now, by model, where its price is known.",
        [Query(f"3600 * ({_known('rate({})', '$__rate_interval')})", "{{model}}")],
        Look(units.Dollars, stacked=True, decimals=4, links=SLOW, empty=UNPRICED),
    )


def unpriced() -> model.Panel:
    """Calls whose cost nobody knows."""
    return lines(
        "Calls without a price",
        "Answered calls a minute to models whose price is not known: the cost beside lacks them. Set their price.",
        [Query(counted("model_unpriced_requests_total", CHOSEN, by=("model",)), "{{model}}")],
        Look(
            units.RequestsPerMinute,
            colours={".+": "orange"},
            links=SLOW,
            empty="Each call in this time range had a price",
        ),
    )


def retries() -> model.Panel:
    """Repeated calls."""
    return lines(
        "Retries",
        "Failed calls a minute that were repeated, by model and reason.",
        [Query(counted("model_retries_total", CHOSEN, by=("model", "reason")), "{{reason}} {{model}}")],
        Look(units.OpsPerMinute, stacked=True, links=TRACES, empty="No call was repeated in this time range"),
    )


def fallbacks() -> model.Panel:
    """Requests that the next model took over."""
    return lines(
        "Fallbacks",
        "Requests a minute that this model could not plan and the next one took over.",
        [Query(counted("model_fallbacks_total", CHOSEN, by=("model",)), "{{model}}")],
        Look(units.RequestsPerMinute, stacked=True, links=TRACES, empty="No model was replaced in this time range"),
    )


def breakers() -> model.Panel:
    """State of each breaker."""
    return states(
        "Circuit breakers",
        "State of each model's breaker as the worst placed process sees it. Open: the model is left alone and the next "
        "one plans.",
        [Query(f"max by (model) ({series('model_breaker_state', CHOSEN)})", "{{model}}")],
        Look(
            units.Short,
            words=BREAKER,
            links=TRACES,
        ),
    )


def transitions() -> model.Panel:
    """Changes of breakers."""
    return lines(
        "Breaker transitions",
        "Changes of breakers a minute, by the new state. A breaker that flutters is set too tight.",
        [Query(counted("model_breaker_transitions_total", CHOSEN, by=("model", "state")), "{{state}} {{model}}")],
        Look(units.OpsPerMinute, 12, links=TRACES, empty="No breaker changed in this time range"),
    )


def corrections() -> model.Panel:
    """Plans sent back."""
    return lines(
        "Plans sent back",
        "Proposed plans a minute that were sent back to the model, by what was wrong with them.",
        [Query(counted("agent_output_retries_total", by=("reason",)), "{{reason}}")],
        Look(units.OpsPerMinute, 12, stacked=True, links=TRACES, empty="No plan was sent back in this time range"),
    )


def hits() -> model.Panel:
    """Share of plans from cache."""
    found = total(rate("cache_requests_total", 'result="hit"'), "cache", "level")
    return lines(
        "Hits of caches",
        "Share of look-ups that found their answer, by cache and level. Redis is asked only when memory has nothing.",
        [Query(share(found, total(rate("cache_requests_total"), "cache", "level")), "{{cache}} {{level}}")],
        Look(units.PercentUnit, 6, maximum=1, links=SLOW),
    )


def lookups() -> model.Panel:
    """What look-ups found."""
    return lines(
        "Look-ups",
        "Look-ups in caches a minute by result: joined ones shared the answer of an equal request under way, bypassed "
        "ones asked for a new plan.",
        [Query(counted("cache_requests_total", by=("result",)), "{{result}}")],
        Look(units.OpsPerMinute, 6, stacked=True, links=SLOW),
    )


def decisions() -> model.Panel:
    """Checks of budgets."""
    return lines(
        "Budget checks",
        "Checks of a principal's budget a minute: refused ones got 429; unchecked ones passed because the database was "
        "away.",
        [Query(counted("budget_decisions_total", by=("decision",)), "{{decision}}")],
        Look(units.OpsPerMinute, 6, stacked=True, colours={"allowed": "green", "refused": "red"}, links=links.FAILURES),
    )


def warnings() -> model.Panel:
    """Budgets that run out."""
    return lines(
        "Budget warnings",
        "Times a minute that a principal's spending crossed this share of its budget of the day.",
        [Query(counted("budget_warnings_total", by=("unit", "level")), "{{level}} % of {{unit}}")],
        Look(units.OpsPerMinute, 6, stacked=True, links=BUDGETS, empty="No budget ran low in this time range"),
    )
