"""Models: do they answer, how quickly, at what price, and does the cache spare them work."""

from __future__ import annotations

from observability.source.causes.cause import COUNT, RATE, Cause

_REQUESTS = "sum by (model) (rate(model_requests_total{@own}[10m]))"
_BUSY = f"({_REQUESTS} > 0.01)"
_FELL_BACK = "sum by (model) (rate(model_fallbacks_total{{@own}}[{window}]))"
_SUCCEEDED = 'sum by (model) (rate(model_requests_total{{@own,status="success"}}[{window}]))'
_LOOKED = 'sum(rate(cache_requests_total{{@own,cache="plan",level="memory",result=~"hit|miss"}}[{window}]{offset}))'
_HITS = 'sum(rate(cache_requests_total{{@own,cache="plan",result="hit"}}[{window}]{offset}))'


def _hit_ratio(window: str, offset: str = "") -> str:
    looked = _LOOKED.format(window=window, offset=offset)
    return f"{_HITS.format(window=window, offset=offset)} / ({looked} > 0.01)"


CAUSES = (
    Cause(
        alert="ModelErrors",
        group="model",
        query=f'sum by (model) (rate(model_requests_total{{@own,status=~"error|timeout"}}[10m])) / {_BUSY} > 0.05',
        pending="10m",
        slo="extraction-success",
        summary="A model fails or times out.",
        description="{{ $value | humanizePercentage }} of the requests to {{ $labels.model }} fail.",
        dashboard="feature-agent-model",
    ),
    Cause(
        alert="ModelRateLimited",
        group="model",
        query=f'sum by (model) (rate(model_requests_total{{@own,status="rate_limited"}}[10m])) / {_BUSY} > 0.01',
        pending="10m",
        slo="extraction-success",
        summary="A model's provider limits our rate.",
        description="{{ $value | humanizePercentage }} of the requests to {{ $labels.model }} are answered 429.",
        dashboard="feature-agent-model",
    ),
    Cause(
        alert="ModelSlow",
        group="model",
        query=(
            "histogram_quantile(0.95, sum by (model, le) (rate(model_request_duration_seconds_bucket{@own}[10m]))) > 10"
        ),
        pending="10m",
        slo="api-latency-extract",
        summary="A model takes long to answer.",
        description="The 95th percentile of {{ $labels.model }} is {{ $value | humanizeDuration }}.",
        dashboard="feature-agent-model",
    ),
    Cause(
        alert="ModelFallback",
        group="model",
        query=(
            f"60 * {_FELL_BACK.format(window='15m')} > 0.3"
            f" unless ({_SUCCEEDED.format(window='2m')} > 0 unless {_FELL_BACK.format(window='2m')} > 0)"
        ),
        pending="5m",
        summary="Another model plans in place of the one that should.",
        description=f"{RATE} requests a minute went from {{{{ $labels.model }}}} to the next model.",
        dashboard="feature-agent-model",
    ),
    Cause(
        alert="ModelBreakerOpen",
        group="model",
        query="max by (model) (model_breaker_state{@own}) == 2",
        pending="5m",
        slo="extraction-success",
        summary="A model is left alone because it keeps failing.",
        description="The circuit breaker of {{ $labels.model }} is open.",
        dashboard="feature-agent-model",
    ),
    Cause(
        alert="PlanRetries",
        group="plans",
        query=(
            "sum(rate(agent_output_retries_total{@own}[15m]))"
            ' / (sum(rate(model_requests_total{@own,status="success"}[15m])) > 0.01) > 0.25'
        ),
        pending="15m",
        summary="Many proposed plans are sent back to the model.",
        description="{{ $value | humanizePercentage }} of the model's answers had faults.",
        dashboard="feature-agent-model",
    ),
    Cause(
        alert="PlanningRefused",
        group="planning",
        query='60 * sum(rate(planning_admissions_total{@own,decision=~"refused|expired"}[10m])) > 1.2',
        pending="5m",
        slo="extraction-success",
        summary="Requests find no place for planning.",
        description=f"{RATE} requests a minute are turned away because all places are taken.",
        dashboard="feature-agent-extractions",
    ),
    Cause(
        alert="ModelSpend",
        group="cost",
        query="sum(increase(model_cost_usd_total{@own}[1h])) > @spend",
        pending="5m",
        summary="Models cost more an hour than they should.",
        description='${{ $value | printf "%.2f" }} were spent on models within an hour.',
        dashboard="feature-agent-model",
        since="12h",
    ),
    Cause(
        alert="PrincipalBudgetSpent",
        group="cost",
        query='sum(increase(budget_decisions_total{@own,decision="refused"}[15m])) > 0',
        pending="1m",
        summary="A principal has spent its day's budget and is refused.",
        description=f"{COUNT} requests within 15 minutes were refused for their principal's budget.",
        dashboard="feature-agent-model",
    ),
    Cause(
        alert="PlanCacheCollapse",
        group="cache",
        query=f"{_hit_ratio('30m')} < 0.5 * ({_hit_ratio('1d', ' offset 30m')} > 0.2)",
        pending="15m",
        summary="The plan cache hits half as often as it did.",
        description="Only {{ $value | humanizePercentage }} of look-ups are hits; each miss pays for a model.",
        dashboard="feature-agent-model",
        since="2d",
    ),
)
