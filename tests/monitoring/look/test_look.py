"""The boards as they are seen: in a Grafana, over a real service, before and during faults."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from playwright.sync_api import Browser

from tests.monitoring.boards import boards
from tests.monitoring.boards import panels as panels_of
from tests.monitoring.look.camera import CHROMIUM, browser, photograph
from tests.monitoring.look.grafana import MISSING, Grafana, grafana
from tests.monitoring.look.scenes import HEALTHY, SCENES, Scene, Sight
from tests.monitoring.look.seen import Panel, faults
from tools.gameday.monitoring import SCRAPE_SECONDS, Monitoring, missing_programs
from tools.gameday.receiver import Receiver
from tools.gameday.system import System, running_system

WARM_UP_SECONDS = 75.0
"""So that rates have their four scrapes, and windows of the fast rules are full."""
VISIBLE_SECONDS = 75.0
"""Within a minute a fault must be seen; the rest is for the browser."""
SINCE = "5m"
PICTURES = os.environ.get("LOOK_PICTURES")
"""A folder for the pictures; without it they are beside the test's other files."""
BOARDS: Mapping[str, dict[str, Any]] = {board["uid"]: board for board in boards()}
ASKED = "prometheus"
"""The kind of data source that is at hand here: panels that ask logs or traces are photographed and not judged."""

pytestmark = [
    pytest.mark.proof,
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
    pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no Chromium at /usr/bin/chromium"),
    pytest.mark.skipif(bool(missing_programs()), reason=f"not installed: {', '.join(missing_programs())}"),
    pytest.mark.xdist_group("look"),
    pytest.mark.timeout(900),
]


class Stage(Struct, frozen=True):
    """A service under traffic, its Prometheus, a Grafana over that, and a browser to look with."""

    system: System
    monitoring: Monitoring
    grafana: Grafana
    browser: Browser
    pictures: Path

    def look(self, uid: str, scene: str) -> list[Panel]:
        """What a board shows now."""
        return photograph(self.browser, self.grafana, BOARDS[uid], SINCE, self.pictures / scene / f"{uid}.png")

    def unseen(self, sights: Sequence[Sight], scene: str, seconds: float) -> list[str]:
        """Which of them are not seen until the time is up."""
        limit = time.monotonic() + seconds
        while True:
            shown = {uid: self.look(uid, scene) for uid in sorted({sight.board for sight in sights})}
            missing = [str(sight) for sight in sights if not sight.seen(shown[sight.board])]
            if not missing or time.monotonic() > limit:
                return missing


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A headless browser."""
    with browser() as started:
        yield started


@contextmanager
def prepared(
    folder: Path, chromium: Browser, environment: Mapping[str, str], rates: Mapping[str, float]
) -> Iterator[Stage]:
    """Everything in place and busy for a while."""
    receiver = Receiver()
    with ExitStack() as stack:
        stack.enter_context(receiver.running())
        system = stack.enter_context(running_system(folder, environment))
        system.users.rates.update(rates)
        monitoring = Monitoring(folder, system.targets, receiver.url)
        stack.enter_context(monitoring.running())
        stack.enter_context(system.users.busy())
        monitoring.wait_for_targets(len(system.targets))
        found = stack.enter_context(grafana(folder / "grafana", monitoring.url, f"{SCRAPE_SECONDS}s"))
        time.sleep(WARM_UP_SECONDS)
        yield Stage(system, monitoring, found, chromium, Path(PICTURES) if PICTURES else folder / "pictures")


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory, chromium: Browser) -> Iterator[Stage]:
    """Nothing is wrong."""
    with prepared(tmp_path_factory.mktemp("look"), chromium, {}, {}) as place:
        yield place


def judged(uid: str, seen: Sequence[Panel]) -> list[str]:
    """What is wrong with any panel of a board, and which are missing."""
    expected = {one["title"]: one for one in panels_of(BOARDS[uid])}
    shown = {panel.title for panel in seen}
    found = [f"{title}: is not there" for title in expected if title not in shown]
    asked = {title: one for title, one in expected.items() if one.get("datasource", {}).get("type") == ASKED}
    return found + [fault for panel in seen if panel.title in asked for fault in faults(panel, asked[panel.title])]


@pytest.mark.parametrize("uid", sorted(BOARDS))
def test_a_board_is_whole(healthy: Stage, uid: str) -> None:
    """No panel has an error badge, a "No data" that is not explained, or text that is cut off at 1600 pixels."""
    assert judged(uid, healthy.look(uid, "healthy")) == []


def test_health_is_green(healthy: Stage) -> None:
    """What is up is said to be, in green."""
    assert healthy.unseen(HEALTHY, "healthy", VISIBLE_SECONDS) == []


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.fault)
def test_a_fault_is_seen(tmp_path: Path, chromium: Browser, scene: Scene) -> None:
    """Within a minute of a fault its panels show it in the right colour, and every board that shows it stays whole."""
    fault = scene.inflicted()
    with (
        prepared(tmp_path, chromium, fault.environment, fault.rates) as place,
        fault.inflict(place.system, place.monitoring),
    ):
        assert place.unseen(scene.sights, scene.fault, VISIBLE_SECONDS) == []
        for uid in sorted({sight.board for sight in scene.sights}):
            assert judged(uid, place.look(uid, scene.fault)) == []
