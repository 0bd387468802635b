"""Build the tree of a request's spans, and draw it with each span's place on the time axis."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from msgspec import Struct, field
from rich.bar import Bar
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

Kind = Literal["unspecified", "internal", "server", "client", "producer", "consumer"]
KINDS: tuple[Kind, ...] = ("unspecified", "internal", "server", "client", "producer", "consumer")
"""In the order of the OTLP enumeration `SpanKind`."""

_COLOURS: Mapping[Kind, str] = {
    "server": "blue", "client": "yellow", "producer": "green", "consumer": "green",
}  # fmt: skip
_OTHER_COLOUR = "cyan"
_MIN_BAR = 0.012
"""Share of the axis, so that a span of microseconds is visible."""


class Span(Struct, frozen=True):
    """One finished span, as exported. Ids are lower-case hexadecimal; times are nanoseconds since 1970."""

    trace_id: str
    span_id: str
    parent_id: str
    """Empty when the trace starts here."""
    name: str
    kind: Kind
    start_ns: int
    end_ns: int
    failed: bool = False
    attributes: dict[str, str | int | float | bool] = field(default_factory=dict[str, str | int | float | bool])

    @property
    def milliseconds(self) -> float:
        """Return its duration."""
        return (self.end_ns - self.start_ns) / 1e6


class Node(Struct, frozen=True):
    """A span and its children."""

    span: Span
    children: tuple[Node, ...] = ()
    orphan: bool = False
    """Whether its parent did not arrive (or arrived only as its own descendant)."""

    def walk(self) -> Iterator[Node]:
        """Yield the node and all its descendants, depth first."""
        yield self
        for child in self.children:
            yield from child.walk()


def build_forest(spans: Iterable[Span]) -> tuple[Node, ...]:
    """Build trees of spans, siblings in order of their start; more than one when parents are missing.

    Every span is in exactly one place: one that was exported twice counts once, and a cycle of parents is cut at the
    earliest span.
    """
    ordered = sorted({span.span_id: span for span in spans}.values(), key=lambda span: (span.start_ns, span.span_id))
    known = {span.span_id for span in ordered}
    children: dict[str, list[Span]] = {}
    for span in ordered:
        children.setdefault(span.parent_id, []).append(span)
    placed: set[str] = set()

    def place(span: Span, *, orphan: bool) -> Node:
        placed.add(span.span_id)
        below = tuple(
            place(child, orphan=False) for child in children.get(span.span_id, ()) if child.span_id not in placed
        )
        return Node(span, below, orphan)

    roots = [place(span, orphan=bool(span.parent_id)) for span in ordered if span.parent_id not in known]
    roots += [place(span, orphan=True) for span in ordered if span.span_id not in placed]
    return tuple(roots)


def draw_forest(forest: Iterable[Node]) -> RenderableType:
    """Draw a line for each span: its place in the tree, its milliseconds, and a bar from its start to its end."""
    trees = tuple(forest)
    spans = [node.span for tree in trees for node in tree.walk()]
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(ratio=5, no_wrap=True, overflow="ellipsis")
    table.add_column(justify="right", no_wrap=True)
    table.add_column(ratio=4)
    if not spans:
        return table
    origin = min(span.start_ns for span in spans)
    length = max(max(span.end_ns for span in spans) - origin, 1)
    for tree in trees:
        for guide, node in _lines(tree):
            table.add_row(_label(guide, node), _duration(node.span), _bar(node.span, origin, length))
    return table


def _lines(node: Node, trunk: str = "", branch: str = "") -> Iterator[tuple[str, Node]]:
    """Yield each node with the guide drawn before it; `trunk` precedes the guides of its children."""
    yield branch, node
    for child in node.children:
        last = child is node.children[-1]
        yield from _lines(child, trunk + ("   " if last else "│  "), trunk + ("└─ " if last else "├─ "))


def _label(guide: str, node: Node) -> Text:
    text = Text.assemble((guide, "dim"))
    text.append(node.span.name, style="bold red" if node.span.failed else _colour(node.span.kind))
    if node.span.kind not in {"internal", "unspecified"}:
        text.append(f" {node.span.kind}", style="dim")
    if node.orphan:
        text.append(" orphan: its parent did not arrive", style="red")
    return text


def _duration(span: Span) -> Text:
    return Text(f"{span.milliseconds:,.1f} ms", style="bold" if not span.parent_id else "")


def _bar(span: Span, origin: int, length: int) -> Bar:
    begin = (span.start_ns - origin) / length
    end = max((span.end_ns - origin) / length, begin + _MIN_BAR)
    return Bar(1.0, min(begin, 1 - _MIN_BAR), min(end, 1.0), color="red" if span.failed else _colour(span.kind))


def _colour(kind: Kind) -> str:
    return _COLOURS.get(kind, _OTHER_COLOUR)
