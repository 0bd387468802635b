"""A browser that opens a board at 1600 pixels, waits until every panel has its data, and takes its picture."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from tests.monitoring.boards import panels as expected_panels
from tests.monitoring.look.grafana import Grafana
from tests.monitoring.look.seen import Panel, panels

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip
WIDTH = 1600
CELL_HEIGHT, PANEL_MARGIN = 38, 300
"""Of Grafana's grid, and what is above and below it, in pixels."""
LOAD_SECONDS = 90.0
SETTLED_READINGS = 3
PAUSE_MILLISECONDS = 400
READ = (Path(__file__).parent / "read_panels.js").read_text()
COLLAPSED_ROW = 'button[aria-label="Expand row"]'


@contextmanager
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield started
        finally:
            started.close()


def photograph(chromium: Browser, found: Grafana, board: dict[str, Any], since: str, picture: Path) -> list[Panel]:
    """What each panel of the board shows; its picture is written."""
    page = chromium.new_page(viewport={"width": WIDTH, "height": _height(board)}, extra_http_headers=found.headers)
    try:
        page.goto(found.board(board["uid"], since))
        return _read_when_settled(page, len(list(expected_panels(board))), picture)
    finally:
        page.close()


def read(page: Page) -> list[Panel]:
    """What each panel of the open page shows now."""
    return panels(page.evaluate(READ))


def _height(board: dict[str, Any]) -> int:
    """So high that all of it is in view: Grafana loads no other panels."""
    rows = sum(one["gridPos"]["h"] for one in expected_panels(board) if one not in board["panels"])
    rows += max(one["gridPos"]["y"] + one["gridPos"]["h"] for one in board["panels"])
    return rows * CELL_HEIGHT + PANEL_MARGIN


def _read_when_settled(page: Page, count: int, picture: Path) -> list[Panel]:
    """Wait until all panels are there, none loads and nothing changes any more, or the time is up."""
    page.wait_for_selector('[data-testid^="data-testid Panel header "]', timeout=LOAD_SECONDS * 1000)
    limit, last, equal = time.monotonic() + LOAD_SECONDS, list[Panel](), 0
    while time.monotonic() < limit and equal < SETTLED_READINGS:
        for row in page.query_selector_all(COLLAPSED_ROW):
            row.click()
        page.wait_for_timeout(PAUSE_MILLISECONDS)
        now = read(page)
        complete = len(now) >= count and not any(panel.loading for panel in now)
        equal = equal + 1 if complete and now == last else 0
        last = now
    picture.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=picture)
    return last
