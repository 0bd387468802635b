"""The verdict of a gate: `verdict.json`. Its schema: `python -m loadtest gate --schema` and docs/load-testing.md."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

VERDICT_FILE = "verdict.json"
Outcome = Literal["pass", "fail", "not_measured"]
EXIT_STATUS: dict[Outcome, int] = {"pass": 0, "fail": 1, "not_measured": 3}


class Reason(Struct, frozen=True):
    """One gate that the run did not get through."""

    gate: str
    """`slo:NAME`, `achieved_rate`, `samples`, `lost`, `doubled`, `regression`, `agreement`, `memory_growth`, …"""
    measured: float | None
    """In the unit that the sentence names; None when nothing could be measured."""
    allowed: float | None
    sentence: str
    """What was wrong, where, and what to do."""


class Check(Struct, frozen=True):
    """One gate, whatever came of it."""

    gate: str
    outcome: Outcome
    measured: float | None
    allowed: float | None
    sentence: str


class Verdict(Struct, frozen=True):
    """What a release engineer needs to know."""

    verdict: Outcome
    reasons: list[Reason]
    """Empty exactly when the verdict is `pass`."""
    checks: list[Check]
    """Every gate, in the order of importance."""
    shape: str
    host: str
    run_id: str
    began: float
    """Seconds since the epoch."""
    ended: float
    version: int = 1
