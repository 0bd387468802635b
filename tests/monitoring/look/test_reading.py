"""What is read from a page, on pages with the marks of Grafana's own components: each fault is found, and no other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from tests.monitoring.look.camera import CHROMIUM, browser, read
from tests.monitoring.look.seen import Panel, colour_name, faults

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no Chromium at /usr/bin/chromium"),
    pytest.mark.xdist_group("look"),
]
EXPECTED = {"title": "Requests", "fieldConfig": {"defaults": {"noValue": "No request came"}}}
GREEN, RED = "rgb(115, 191, 105)", "rgb(242, 73, 92)"
VALUE = f'<span style="color: {GREEN}">0.256</span>'
ERROR_BADGE = '<button aria-label="Error" data-testid="data-testid Panel status error">!</button>'
MESSAGE = '<div data-testid="data-testid Panel data error message">{}</div>'
NARROW = '<div style="width: 40px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap">{}</div>'
PLOT = """<div class="u-wrap" style="position: relative"><canvas width="200" height="90"></canvas>
<div class="u-over" style="position: absolute; left: 20px; top: 0; width: 170px; height: 80px"></div></div>
<script>
const pen = document.querySelector('canvas').getContext('2d');
const [green, red] = ['#73BF69', '#F2495C'];
for (const [colour, left, top, width] of [[green, 20, 4, 160], [green, 20, 44, 100], [red, 120, 44, 60]]) {
  pen.fillStyle = colour;
  pen.fillRect(left, top, width, 30);
}
</script>"""


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page of a headless browser."""
    with browser() as chromium:
        yield chromium.new_page(viewport={"width": 1600, "height": 900})


def shown(page: Page, content: str, header: str = "") -> Panel:
    """What is read from one panel with that content."""
    page.set_content(
        f'<section data-testid="data-testid Panel header Requests" style="width: 300px">{header}'
        f'<div data-testid="data-testid panel content" style="overflow: hidden">{content}</div></section>'
    )
    [panel] = read(page)
    return panel


def test_a_sound_panel_has_no_fault(page: Page) -> None:
    """Its title, its words and their colours are read, and nothing is wrong with it."""
    panel = shown(page, VALUE)
    assert (panel.title, panel.text, panel.colours("0.256")) == ("Requests", "0.256", {"green"})
    assert faults(panel, EXPECTED) == []


FAULTY: dict[str, tuple[str, str, str]] = {
    "error badge": (VALUE, ERROR_BADGE, "has an error badge"),
    "loading": (VALUE, '<div aria-label="Panel loading bar"></div>', "still loads"),
    "no data": (MESSAGE.format("No data"), "", "says that there is no data, not why"),
    "no number": (MESSAGE.format("Data is missing a number field"), "", "says that there is no data, not why"),
    "blank": ("<canvas></canvas>", "", "says that there is no data, not why"),
    "cut cell": (VALUE + NARROW.format("ExtractionFreshnessBudgetBurn"), "", "cuts 'ExtractionFreshnessBudgetBurn'"),
    "cut column": (
        '<div style="overflow: auto"><table><tr><td style="min-width: 290px">GET</td><td>Max</td></tr></table></div>',
        "",
        "cuts 'Max'",
    ),
}


@pytest.mark.parametrize("name", FAULTY)
def test_a_fault_is_found(page: Page, name: str) -> None:
    """An error badge, endless loading, an unexplained "No data", a blank panel, cut cells and columns are faults."""
    content, header, fault = FAULTY[name]
    assert faults(shown(page, content, header), EXPECTED) == [f"Requests: {fault}"]


@pytest.mark.parametrize(
    "content",
    [MESSAGE.format("No request came"), NARROW.format("short"), f'<div style="display: none">No data</div>{VALUE}'],
)
def test_what_is_explained_whole_or_hidden_is_no_fault(page: Page, content: str) -> None:
    """The panel's own words for nothing, a cell that fits, and text that nobody sees are none."""
    assert faults(shown(page, content), EXPECTED) == []


@pytest.mark.parametrize(
    "style", [f"background-color: {RED}", f"background-image: linear-gradient(120deg, {RED}, rgb(200, 30, 60))"]
)
def test_a_coloured_background_is_the_colour_of_a_word(page: Page, style: str) -> None:
    """White on red is red, whether plain or shaded; what stands beside it keeps its own."""
    panel = shown(page, f'<div style="{style}"><b style="color: white">down</b></div>{VALUE}')
    assert panel.colours("down") == {"red"}
    assert panel.colours("0.256") == {"green"}


def test_states_are_read_where_the_plot_ends(page: Page) -> None:
    """Of a state timeline the last state of each row is read: what is green at first and red now is red."""
    assert shown(page, PLOT).state_colours == ("green", "red")


@pytest.mark.parametrize(
    ("name", "shades"),
    {
        "green": ("#73BF69", "#37872D", "#96D98D"),
        "red": ("#F2495C", "#C4162A", "#E02F44"),
        "orange": ("#FF9830", "#FA6400"),
        "yellow": ("#FADE2A", "#F2CC0C"),
        "blue": ("#5794F2", "#1F60C4"),
        "grey": ("#CCCCDC", "#808080", "#111217"),
    }.items(),
)
def test_colours_have_names(name: str, shades: tuple[str, ...]) -> None:
    """The shades of Grafana's palette are named as a reader would."""
    values = [tuple(bytes.fromhex(shade[1:])) for shade in shades]
    assert {colour_name(value) for value in values if len(value) == 3} == {name}


def test_every_panel_is_read_once(page: Page) -> None:
    """Two panels side by side are two, in the order of the page."""
    titles = ["Requests", "5xx"]
    page.set_content("".join(f'<section data-testid="data-testid Panel header {t}">{t}</section>' for t in titles))
    assert [panel.title for panel in read(page)] == titles
