"""How far a computation has come: which of its steps it is at, and how far DuckDB has come in that one."""

from __future__ import annotations

from collections.abc import Callable


class Progress:
    """Tells the share of the work that is done, 0 to 1, never less than before.

    The thread that computes says which step it begins; whoever waits for it says what DuckDB tells of the statement
    that runs, which is the share of its rows that have been read. Both may speak at any time.
    """

    def __init__(self, tell: Callable[[float], None]) -> None:
        self._tell = tell
        self._step = (0.0, 0.0)
        self._told = 0.0

    def begin(self, until: float) -> None:
        """All before is done; the step that begins ends when `until` of the work is."""
        self._step = (self._step[1], until)
        self._report(self._step[0])

    def end(self) -> None:
        """All is done."""
        self.begin(1.0)
        self._report(1.0)

    def within(self, percent: float) -> None:
        """So much of the step's statement is done, as DuckDB says: 0 to 100, less than 0 when none runs."""
        first, last = self._step
        self._report(first + (last - first) * min(max(percent, 0.0), 100.0) / 100.0)

    def _report(self, share: float) -> None:
        if share > self._told:
            self._told = share
            self._tell(share)
