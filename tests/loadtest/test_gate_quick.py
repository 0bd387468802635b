"""The gate passes the service as it is, and rejects one that is slow and one that loses what it accepted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.loadtest.stand import OF_A_BUSY_MACHINE, OF_THE_MACHINE, gate, service

pytestmark = [pytest.mark.proof, pytest.mark.xdist_group("loadtest"), pytest.mark.timeout(240)]


def test_the_service_as_it_is_passes(tmp_path: Path, new_database: Callable[[], str]) -> None:
    """A healthy service gets through every gate with exit status 0, so that nothing is rejected by accident."""
    with service(tmp_path, new_database()) as standing:
        judged = gate(standing, tmp_path)
    reasons = judged.reasons
    if judged.busy:
        assert reasons.keys() <= OF_A_BUSY_MACHINE, reasons
        return
    assert (judged.status, judged.verdict["verdict"], reasons) == (0, "pass", {})
    assert judged.run["extractions"]["accepted"] >= 10


def test_the_command_itself_says_when_the_machine_is_too_busy(tmp_path: Path, new_database: Callable[[], str]) -> None:
    """Run with its own bounds, the gate passes a healthy service, or says with exit status 3 what else ran."""
    with service(tmp_path, new_database()) as standing:
        judged = gate(standing, tmp_path, really=True)
    if judged.status == 3:
        assert judged.verdict["verdict"] == "not_measured"
        assert judged.reasons.keys() & OF_THE_MACHINE
    else:
        assert (judged.status, judged.reasons) == (0, {})


def test_a_slow_service_is_rejected(tmp_path: Path, new_database: Callable[[], str]) -> None:
    """With 300 ms more for every request, reads miss their objective on both sides, and the sentence says so."""
    with service(tmp_path, new_database(), "delay") as standing:
        judged = gate(standing, tmp_path)
    assert (judged.status, judged.verdict["verdict"]) == (1, "fail")
    assert "answered within 0.25 s" in judged.reasons["slo:api-latency-read"]
    sides = [one["sentence"] for one in judged.verdict["reasons"] if one["gate"] == "slo:api-latency-read"]
    assert any("by the service's metrics" in sentence for sentence in sides)
    assert any("as its clients saw it" in sentence for sentence in sides)


def test_a_service_that_loses_extractions_is_rejected(tmp_path: Path, new_database: Callable[[], str]) -> None:
    """Extractions that were accepted and are not there any more fail the run, whatever else was measured."""
    with service(tmp_path, new_database(), "lost") as standing:
        judged = gate(standing, tmp_path)
    assert (judged.status, judged.verdict["verdict"]) == (1, "fail")
    assert "is not there" in judged.reasons["lost"]
    assert "doubled" not in judged.reasons
