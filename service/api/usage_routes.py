"""`GET /usage`: what the caller uses of each quota, and what it may."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from litestar import get

from service.api.decoding import ApiRequest
from service.api.guards import reads_anything
from service.api.limits import RATE_LIMIT_DECISION
from service.api.problems import PROTECTED, documented
from service.api.services import ApiConfig, Config, Services
from service.api.usage_schemas import (
    AmountAllowance,
    CountAllowance,
    ModelAllowance,
    OpenRequests,
    RequestAllowance,
    UploadLimits,
    UsageAnswer,
    UsageView,
)
from service.features.identity import ShareKind
from service.features.ports import Spent
from service.security.limits import RateLimitDecision
from service.security.shares import Shares


@get(
    "/usage",
    operation_id="get_usage",
    tags=["usage"],
    summary="Ask what you use and what you may",
    opt=reads_anything,
    response_description="Each quota with what is used of it.",
    responses=documented(*PROTECTED),
)
async def get_usage(request: ApiRequest, services: Services, config: Config) -> UsageAnswer:
    """All keys of one principal share these quotas."""
    owner, today = request.user.id, services.clock.now().astimezone(UTC).date()
    limits, used = services.quotas.limits, await services.quotas.use_of(owner)
    spent = await services.budgets.spent(owner, today)
    view = UsageView(
        datasets=CountAllowance(used.datasets, limits.datasets or None),
        stored_bytes=CountAllowance(used.stored_bytes, limits.stored_bytes or None),
        upload=UploadLimits(bytes=config.max_upload_bytes, rows=config.max_rows, cells=config.max_cells),
        open=_open(services.shares, owner),
        requests_per_minute=_requests(request.scope["state"][RATE_LIMIT_DECISION]),
        model_today=_model(spent, today, config),
    )
    return UsageAnswer.of(view)


def _open(shares: Shares, owner: str) -> OpenRequests:
    def allowance(kind: ShareKind) -> CountAllowance:
        used, limit = shares.use(owner, kind)
        return CountAllowance(used, limit or None)

    return OpenRequests(allowance("upload"), allowance("download"), allowance("stream"), allowance("wait"))


def _requests(decision: RateLimitDecision) -> RequestAllowance:
    if not decision.limit:
        return RequestAllowance(None, None, None)
    return RequestAllowance(decision.limit, max(0, decision.remaining), max(0, decision.reset_seconds))


def _model(spent: Spent, today: date, config: ApiConfig) -> ModelAllowance:
    return ModelAllowance(
        tokens=CountAllowance(spent.tokens, config.budget_tokens_per_day or None),
        usd=AmountAllowance(spent.cost_usd, config.budget_usd_per_day or None),
        resets_at=datetime.combine(today + timedelta(days=1), time(), UTC),
    )
