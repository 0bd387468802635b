"""Which panel shows what an alert is about: where its link leads."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from observability.source.dashboards.all_boards import boards
from observability.source.dashboards.board import panel_ids
from observability.source.slo import Objectives

PANELS: Mapping[str, str] = {
    "ApiAvailabilityBudgetBurn": "5xx by route",
    "ApiLatencyReadBudgetBurn": "Duration",
    "ApiLatencyExtractBudgetBurn": "Duration",
    "ExtractionSuccessBudgetBurn": "Outcomes",
    "ExtractionFreshnessBudgetBurn": "Oldest waiting job",
    "ErrorBudgetSpent": "Error budget left",
    "ApiDown": "API processes",
    "ApiTargetsDown": "API processes",
    "AuthenticationFailureSurge": "Turned away",
    "RateLimiterDegraded": "Turned away",
    "RequestsOverShare": "Turned away",
    "QuotaRefusals": "Turned away",
    "EventLoopLag": "Event loop lag",
    "ConnectionsRefused": "Connections refused",
    "PostgresDown": "Servers, as their exporters see them",
    "PostgresConnections": "Connections of the server",
    "DatabasePoolExhausted": "Pool in use",
    "RedisDown": "Servers, as their exporters see them",
    "RedisMemory": "Memory of Redis",
    "OldestJobTooOld": "Oldest waiting job",
    "NoLiveWorker": "Workers",
    "QueueGrowing": "Jobs in the queue",
    "DeadLetters": "Given up",
    "PoisonJob": "Given up",
    "WorkersCrashing": "Attempts",
    "EngineProcessesKilled": "Engine processes killed",
    "EnginePlacesLost": "Engine processes",
    "BackupTooOld": "Age of the last backup",
    "ModelErrors": "Failed calls by model",
    "ModelRateLimited": "Calls by outcome",
    "ModelSlow": "Duration by model",
    "ModelFallback": "Fallbacks",
    "ModelBreakerOpen": "Circuit breakers",
    "PlanRetries": "Plans sent back",
    "PlanningRefused": "Places for planning",
    "ModelSpend": "Cost an hour",
    "PrincipalBudgetSpent": "Budget checks",
    "PlanCacheCollapse": "Hits of caches",
    "TargetDown": "Targets",
    "SpansDropped": "Spans that the service lost",
    "RuleEvaluationFailures": "Failed rules",
    "NotificationsFailing": "Notifications",
    "MemoryNearLimit": "Memory",
    "ContainerMemoryNearLimit": "Memory against request and limit",
    "ContainerOomKilled": "Killed for memory",
    "CpuThrottled": "Throttled periods",
    "AutoscalerAtMaximum": "Autoscaler",
    "ReplicasMismatch": "Replicas",
    "CertificateExpiring": "TLS certificates",
    "ProbeFailing": "Reached from outside",
    "CrashLoop": "Instances",
    "DiskNearlyFull": "Disk left",
    "LongTransaction": "Longest transaction",
    "SessionsWaitForLocks": "Sessions that wait",
}
"""Alerts that are not here are about a board as a whole."""


def panel_of(objectives: Objectives, alert: str, board: str) -> int | None:
    """The id of the alert's panel on that board. Raises KeyError when the board has no panel of that title."""
    title = PANELS.get(alert)
    return None if title is None else _ids(objectives)[board, title]


@functools.lru_cache(maxsize=8)
def _ids(objectives: Objectives) -> Mapping[tuple[str, str], int]:
    return {(one.uid, title): at for one in boards(objectives) for title, at in panel_ids(one).items()}
