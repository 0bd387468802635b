"""Proofs of `causes/jobs.py`."""

from __future__ import annotations

from observability.source.proofs.proof import Expected, Proof

_OLDEST = 'extraction_queue_oldest_seconds{job="feature-agent",instance="%s"}'
_QUEUED = 'extraction_queue_jobs{job="feature-agent",state="queued"}'
_DEAD = 'extraction_dead_letters_total{job="feature-agent-worker",code="%s"}'
_WORKERS = 'extraction_workers{job="%s"}'
_CRASHED = 'extraction_crashes{job="feature-agent"}'
_KILLED = 'engine_processes_killed_total{job="feature-agent",instance="a",reason="%s"}'
_PROCESSES = 'engine_processes{job="feature-agent",instance="a",state="%s"}'
_BACKUP = 'backup_last_success_timestamp_seconds{job="feature-agent",instance="a"}'
_AFTER = 'backup_last_success_timestamp_seconds{job="feature-agent",instance="b"}'

PROOFS = (
    Proof(
        alert="OldestJobTooOld",
        fires={_OLDEST % "a": "0+60x10 0x20", _OLDEST % "b": "0x30"},
        pending="6m",
        at="8m",
        expect=(Expected(severity="critical", description="The oldest extraction that could run has waited 8m 0s."),),
        kept="15m",
        clear="18m",
        below={_OLDEST % "a": "300x30", _OLDEST % "b": "0x30"},
    ),
    Proof(
        alert="NoLiveWorker",
        fires={_WORKERS % "feature-agent": "4x4 0x5 4x20"},
        pending="5m",
        at="7m",
        expect=(Expected(severity="critical", description="No worker has sent a heartbeat for 8 s or more."),),
        kept="15m",
        clear="18m",
        below={_WORKERS % "feature-agent": "1x30"},
    ),
    Proof(
        alert="QueueGrowing",
        fires={_QUEUED: "0+20x30 0x20"},
        pending="14m",
        at="18m",
        expect=(Expected(description="360 extractions wait, and there are more all the time."),),
        clear="32m",
        below={_QUEUED: "400-5x50"},
    ),
    Proof(
        alert="QueueGrowing",
        what="up to the limit",
        fires={_QUEUED: "95+1x18 0x30"},
        pending="15m",
        at="17m",
        expect=(Expected(description="112 extractions wait, and there are more all the time."),),
        clear="25m",
        below={_QUEUED: "80+1x20 100x30"},
    ),
    Proof(
        alert="DeadLetters",
        fires={_DEAD % "model_timeout": "0x3 2x40", _DEAD % "compute_failed": "7x43"},
        at="6m",
        expect=(
            Expected(
                labels={"code": "model_timeout"},
                description="2 extractions ended with model_timeout within 15 minutes.",
            ),
        ),
        clear="22m",
        below={_DEAD % "model_timeout": "2x43", _DEAD % "compute_failed": "7x43"},
    ),
    Proof(
        alert="PoisonJob",
        fires={_DEAD % "worker_lost": "0x3 1x90"},
        at="6m",
        expect=(Expected(description="1 extractions within an hour crashed their workers three times."),),
        clear="70m",
        below={_DEAD % "worker_lost": "1x90", _DEAD % "model_timeout": "0+1x90"},
    ),
    Proof(
        alert="WorkersCrashing",
        fires={_CRASHED: "0+1x20 20+0x40"},
        at="18m",
        expect=(Expected(description="1.0 attempts a minute ended with their worker."),),
        clear="40m",
        below={_CRASHED: "0x9 1x9 2x9 3x30"},
    ),
    Proof(
        alert="EngineProcessesKilled",
        fires={_KILLED % "deadline": "0x3 1x1 2x1 3x40"},
        at="8m",
        expect=(
            Expected(
                labels={"reason": "deadline"},
                description="3 engine processes within 15 minutes ended so: deadline.",
            ),
        ),
        clear="25m",
        below={_KILLED % "crashed": "0x3 1x3 2x40", _KILLED % "cancelled": "0+5x40"},
    ),
    Proof(
        alert="EnginePlacesLost",
        fires={_PROCESSES % "lost": "0x3 1x10 0x10"},
        pending="4m",
        at="8m",
        expect=(
            Expected(labels={"job": "feature-agent", "instance": "a"}, description="a lacks 1 places of its engine."),
        ),
        clear="16m",
        below={_PROCESSES % "lost": "0x30", _PROCESSES % "busy": "4x30"},
    ),
    Proof(
        alert="BackupTooOld",
        what="made once",
        fires={_BACKUP: "60x1600 95000x40"},
        pending="1570m",
        at="1581m",
        expect=(Expected(description="The last complete backup was made 1d 2h 20m 0s ago."),),
        clear="1620m",
        below={_BACKUP: "1200x1580 95000x60"},
    ),
    Proof(
        alert="BackupTooOld",
        what="never made, a day after the installation",
        fires={_BACKUP: "_x60 0x1640 102000x40"},
        pending="1629m",
        at="1640m",
        expect=(Expected(description="No complete backup was ever made."),),
        clear="1720m",
        below={_BACKUP: "_x60 0x1540 96000x100"},
    ),
    Proof(
        alert="BackupTooOld",
        what="never made, and every process started again",
        fires={_BACKUP: "0x1540 _x10", _AFTER: "_x1551 0x60 96600x40"},
        pending="1569m",
        at="1600m",
        expect=(Expected(description="No complete backup was ever made."),),
        clear="1640m",
        below={_AFTER: "_x1551 0x60 96600x40"},
    ),
)
