"""Proofs of `causes/model.py`."""

from __future__ import annotations

from observability.source.proofs.proof import Expected, Proof

_REQUESTS = 'model_requests_total{job="feature-agent-worker",model="m",status="%s"}'
_SECONDS = 'model_request_duration_seconds_bucket{job="feature-agent-worker",model="m",le="%s"}'
_FALLBACKS = 'model_fallbacks_total{job="feature-agent-worker",model="m"}'
_BREAKER = 'model_breaker_state{job="feature-agent-worker",model="m",instance="%s"}'
_RETRIES = 'agent_output_retries_total{job="feature-agent-worker",reason="schema"}'
_ADMISSIONS = 'planning_admissions_total{job="feature-agent-worker",decision="%s"}'
_COST = 'model_cost_usd_total{job="feature-agent-worker",model="m"}'
_BUDGET = 'budget_decisions_total{job="feature-agent-worker",decision="%s"}'
_CACHE = 'cache_requests_total{job="feature-agent-worker",cache="plan",level="%s",result="%s"}'
_M = {"model": "m"}


def _seconds(to_5: str, to_10: str, to_20: str) -> dict[str, str]:
    return {_SECONDS % "5.0": to_5, _SECONDS % "10.0": to_10, _SECONDS % "20.0": to_20, _SECONDS % "+Inf": to_20}


PROOFS = (
    Proof(
        alert="ModelErrors",
        fires={
            _REQUESTS % "success": "0+90x25 2250+100x40",
            _REQUESTS % "error": "0+6x25 150+0x40",
            _REQUESTS % "timeout": "0+4x25 100+0x40",
        },
        pending="9m",
        at="20m",
        expect=(Expected(labels=_M, description="10% of the requests to m fail."),),
        clear="45m",
        below={_REQUESTS % "success": "0+96x65", _REQUESTS % "error": "0+4x65", _REQUESTS % "timeout": "0x65"},
    ),
    Proof(
        alert="ModelRateLimited",
        fires={
            _REQUESTS % "success": "0+98x25 2450+100x40",
            _REQUESTS % "rate_limited": "0+2x25 50+0x40",
        },
        pending="9m",
        at="20m",
        expect=(Expected(labels=_M, description="2% of the requests to m are answered 429."),),
        clear="45m",
        below={_REQUESTS % "success": "0+99.5x65", _REQUESTS % "rate_limited": "0+0.5x65"},
    ),
    Proof(
        alert="ModelSlow",
        fires=_seconds("0+80x25 2000+100x40", "0+90x25 2250+100x40", "0+100x25 2500+100x40"),
        pending="9m",
        at="20m",
        expect=(Expected(labels=_M, description="The 95th percentile of m is 15s."),),
        clear="45m",
        below=_seconds("0+80x65", "0+95x65", "0+100x65"),
    ),
    Proof(
        alert="ModelFallback",
        fires={_FALLBACKS: "0+3x20 60+0x40"},
        pending="4m",
        at="18m",
        expect=(Expected(labels=_M, description="3.0 requests a minute went from m to the next model."),),
        clear="40m",
        below={_FALLBACKS: "0x9 2x9 4x50"},
    ),
    Proof(
        alert="ModelFallback",
        what="while it lasts, not after it",
        fires={_FALLBACKS: "0+9x20 180+0x40", _REQUESTS % "success": "0x21 0+9x40"},
        pending="4m",
        at="18m",
        expect=(Expected(labels=_M, description="9.0 requests a minute went from m to the next model."),),
        clear="25m",
        below={_FALLBACKS: "0+9x3 27+0x60", _REQUESTS % "success": "0x4 0+9x60"},
    ),
    Proof(
        alert="ModelBreakerOpen",
        fires={_BREAKER % "a": "0x4 2x9 0x20", _BREAKER % "b": "0x40"},
        pending="8m",
        at="12m",
        expect=(Expected(labels=_M, description="The circuit breaker of m is open."),),
        clear="16m",
        below={_BREAKER % "a": "0x4 1x30", _BREAKER % "b": "0x40"},
    ),
    Proof(
        alert="PlanRetries",
        fires={_RETRIES: "0+30x30 900+0x40", _REQUESTS % "success": "0+100x70"},
        pending="14m",
        at="28m",
        expect=(Expected(description="30% of the model's answers had faults."),),
        clear="60m",
        below={_RETRIES: "0+24x70", _REQUESTS % "success": "0+100x70"},
    ),
    Proof(
        alert="PlanningRefused",
        fires={_ADMISSIONS % "refused": "0+6x20 120+0x40", _ADMISSIONS % "admitted": "0+60x60"},
        pending="4m",
        at="18m",
        expect=(Expected(description="6.0 requests a minute are turned away because all places are taken."),),
        clear="40m",
        below={_ADMISSIONS % "refused": "0+1x60", _ADMISSIONS % "admitted": "0+60x60"},
    ),
    Proof(
        alert="ModelSpend",
        fires={_COST: "0+0.5x90 45+0x90"},
        pending="43m",
        at="80m",
        expect=(Expected(description="$30.00 were spent on models within an hour."),),
        clear="150m",
        below={_COST: "0+0.3x180"},
    ),
    Proof(
        alert="PrincipalBudgetSpent",
        fires={_BUDGET % "refused": "0+15x20 300+0x40"},
        at="18m",
        expect=(Expected(description="225 requests within 15 minutes were refused for their principal's budget."),),
        clear="40m",
        below={_BUDGET % "refused": "300x60", _BUDGET % "allowed": "0+15x60"},
    ),
    Proof(
        alert="PlanCacheCollapse",
        interval="2m",
        fires={
            _CACHE % ("memory", "hit"): "0+80x240 19200+20x60 20400+80x240",
            _CACHE % ("memory", "miss"): "0+20x240 4800+80x60 9600+20x240",
            _CACHE % ("redis", "miss"): "0+20x240 4800+80x60 9600+20x240",
        },
        pending="510m",
        at="560m",
        expect=(Expected(description="Only 20% of look-ups are hits; each miss pays for a model."),),
        clear="700m",
        below={
            _CACHE % ("memory", "hit"): "0+80x240 19200+45x60 21900+80x240",
            _CACHE % ("memory", "miss"): "0+20x240 4800+55x60 8100+20x240",
        },
    ),
)
