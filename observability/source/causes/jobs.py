"""Extractions: do they start, do they end, do they end badly."""

from __future__ import annotations

from observability.source.causes.cause import COUNT, OUTLASTS_BURNS, RATE, Cause

_BACKUP = "backup_last_success_timestamp_seconds{@own}"
"""0 when there never was one: that alerts only where there was none 26 hours ago either, not in a new installation."""

CAUSES = (
    Cause(
        alert="OldestJobTooOld",
        group="queue",
        query="max(extraction_queue_oldest_seconds{@own}) > <5m>",
        pending="2m",
        keep=OUTLASTS_BURNS,
        severity="critical",
        slo="extraction-freshness",
        summary="Accepted extractions wait too long for a worker.",
        description="The oldest extraction that could run has waited {{ $value | humanizeDuration }}.",
        dashboard="feature-agent-extractions",
    ),
    Cause(
        alert="NoLiveWorker",
        group="workers",
        query="max(extraction_workers{@own}) == 0",
        pending="1m",
        keep=OUTLASTS_BURNS,
        severity="critical",
        slo="extraction-freshness",
        summary="No worker lives: nothing that is accepted is run.",
        description="No worker has sent a heartbeat for 8 s or more.",
        dashboard="feature-agent-extractions",
    ),
    Cause(
        alert="QueueGrowing",
        group="queue",
        query=(
            'max(extraction_queue_jobs{@own,state="queued"}) > 100'
            ' and max(deriv(extraction_queue_jobs{@own,state="queued"}[10m])) > 0'
        ),
        pending="10m",
        slo="extraction-freshness",
        summary="More extractions come in than the workers run.",
        description=f"{COUNT} extractions wait, and there are more all the time.",
        dashboard="feature-agent-extractions",
    ),
    Cause(
        alert="DeadLetters",
        group="dead-letters",
        query="sum by (code) (increase(extraction_dead_letters_total{@own}[15m])) > 0",
        pending="0s",
        slo="extraction-success",
        summary="Extractions were given up for the service's own fault.",
        description=f"{COUNT} extractions ended with {{{{ $labels.code }}}} within 15 minutes.",
        dashboard="feature-agent-extractions",
    ),
    Cause(
        alert="PoisonJob",
        group="dead-letters",
        query='sum(increase(extraction_dead_letters_total{@own,code="worker_lost"}[1h])) > 0',
        pending="0s",
        slo="extraction-success",
        summary="An extraction ended every worker that ran it, and is not tried again.",
        description=f"{COUNT} extractions within an hour crashed their workers three times.",
        dashboard="feature-agent-extractions",
    ),
    Cause(
        alert="WorkersCrashing",
        group="workers",
        query="60 * max(deriv(extraction_crashes{@own}[15m])) > 0.15",
        pending="1m",
        slo="extraction-success",
        summary="Workers die in the middle of extractions.",
        description=f"{RATE} attempts a minute ended with their worker.",
        dashboard="feature-agent-extractions",
    ),
    Cause(
        alert="EngineProcessesKilled",
        group="engine",
        query='sum by (reason) (increase(engine_processes_killed_total{@own,reason=~"deadline|crashed"}[15m])) > 2.5',
        pending="0s",
        slo="extraction-success",
        summary="The engine crashes or does not stop, again and again.",
        description=f"{COUNT} engine processes within 15 minutes ended so: {{{{ $labels.reason }}}}.",
        dashboard="feature-agent-saturation",
    ),
    Cause(
        alert="EnginePlacesLost",
        group="engine",
        query='max by (job, instance) (engine_processes{@own,state="lost"}) > 0',
        pending="1m",
        slo="extraction-success",
        summary="Killed engine processes do not end, and their places are gone.",
        description=f"{{{{ $labels.instance }}}} lacks {COUNT} places of its engine.",
        dashboard="feature-agent-saturation",
    ),
    Cause(
        alert="BackupTooOld",
        group="backup",
        query=(
            f"time() - max({_BACKUP} > 0) > <26h>"
            f" or max({_BACKUP}) == 0 and max(last_over_time({_BACKUP}[1h] offset 26h)) == 0"
        ),
        pending="10m",
        summary="There is no backup of the last day.",
        description=(
            "{{ if eq $value 0.0 }}No complete backup was ever made.{{ else }}"
            "The last complete backup was made {{ $value | humanizeDuration }} ago.{{ end }}"
        ),
        dashboard="feature-agent-saturation",
        since="2d",
    ),
)
