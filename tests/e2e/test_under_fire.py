from __future__ import annotations

from pathlib import Path

import pytest

from tools import rolling, soak

pytestmark = [pytest.mark.proof, pytest.mark.timeout(400), pytest.mark.xdist_group("fleet")]


async def test_soak(tmp_path: Path) -> None:
    """The short form of `make soak`: nothing is lost or done twice, and other workers take over what killed ones held.

    The long form measures how soon: here other tests use the machine as well, so the bound only finds a hang.
    """
    report = await soak.soak(tmp_path, soak.Plan(jobs=40, kill_every=3.0, clients=8, recovery_seconds=60.0))
    print(report.figures())  # noqa: T201 - the measurement
    assert report.faults() == []
    assert report.kills > 0


async def test_rolling_restart(tmp_path: Path) -> None:
    """The short form of `make rolling`: every process is replaced under load, and no request fails."""
    report = await rolling.roll(tmp_path, rolling.Plan(rounds=1, clients=4, drain_seconds=2.0))
    print(report.figures())  # noqa: T201 - the measurement
    assert report.load.failed == []
    assert report.replaced == rolling.APIS + rolling.WORKERS
    assert report.load.closing > 0
    report.audit.require_nothing_lost()
