"""What a panel shows, as it was read from a page: words and states with the names of their colours."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any

from msgspec import Struct, convert

Rgb = tuple[float, float, float]
HUES = ((20, "red"), (48, "orange"), (70, "yellow"), (170, "green"), (260, "blue"), (330, "purple"), (361, "red"))
"""The hue in degrees up to which a colour has that name: Grafana's palettes in their light and dark shades."""
MIN_SATURATION, MIN_LIGHTNESS = 0.25, 0.15
NO_DATA = ("No data", "Data is missing a")
"""How Grafana says by itself that there is nothing to show."""


class Word(Struct, frozen=True):
    """A piece of text."""

    text: str
    colour: Rgb
    background: Rgb | None = None

    @property
    def shown(self) -> str:
        """The colour that the eye connects with it: a coloured background, or else its own."""
        behind = colour_name(self.background) if self.background else "grey"
        return behind if behind != "grey" else colour_name(self.colour)


class Panel(Struct, frozen=True):
    """One panel."""

    title: str
    error: bool = False
    """Whether it has an error badge."""
    loading: bool = False
    message: str = ""
    """What stands in place of data."""
    words: tuple[Word, ...] = ()
    states: tuple[Rgb, ...] = ()
    """Colours at the right end of its plot, from top to bottom."""
    cut: tuple[str, ...] = ()
    """Texts of which a part cannot be seen."""

    @property
    def text(self) -> str:
        """All of its words."""
        return " ".join(word.text for word in self.words)

    def colours(self, text: str) -> set[str]:
        """The colours in which it shows that text."""
        return {word.shown for word in self.words if word.text == text}

    @property
    def state_colours(self) -> tuple[str, ...]:
        """The names of the colours at the right end of its plot."""
        return tuple(colour_name(state) for state in self.states)


def panels(read: Sequence[dict[str, Any]]) -> list[Panel]:
    """What `read_panels.js` brings."""
    return convert(read, list[Panel])


def colour_name(rgb: Rgb) -> str:
    """Grey for what has hardly any colour; else the name of its hue."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*(part / 255 for part in rgb))
    if saturation < MIN_SATURATION or lightness < MIN_LIGHTNESS:
        return "grey"
    return next(name for limit, name in HUES if hue * 360 < limit)


def faults(panel: Panel, expected: dict[str, Any]) -> list[str]:
    """What no panel may show, whatever happens; `expected` is its JSON."""
    found = ["has an error badge"] if panel.error else []
    found += ["still loads"] if panel.loading else []
    if unexplained(panel, str(expected["fieldConfig"]["defaults"].get("noValue", ""))):
        found.append("says that there is no data, not why")
    found += [f"cuts {text!r}" for text in panel.cut]
    return [f"{panel.title}: {fault}" for fault in found]


def unexplained(panel: Panel, explanation: str) -> bool:
    """Whether there is nothing in it, or Grafana's own words for nothing."""
    said = panel.message or panel.text
    if any(said.startswith(words) or f" {words}" in said for words in NO_DATA):
        return explanation not in said or not explanation
    return not said and not panel.states
