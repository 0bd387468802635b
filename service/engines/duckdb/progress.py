"""Report how far a computation has come, from its steps and DuckDB's progress within the running statement."""

from __future__ import annotations

from collections.abc import Callable


class Progress:
    """Reports the share of the work that is done, 0 to 1, never less than before.

    The computing thread calls `begin` for each step; the waiting task calls `within` with DuckDB's progress, which is
    the share of the statement's rows that have been read. Both may call at any time.
    """

    def __init__(self, report: Callable[[float], None]) -> None:
        self._notify = report
        self._step = (0.0, 0.0)
        self._reported = 0.0

    def begin(self, until: float) -> None:
        """Begin a step, which ends when the share `until` of the work is done; everything before it is done."""
        self._step = (self._step[1], until)
        self._report(self._step[0])

    def end(self) -> None:
        """Report that everything is done."""
        self.begin(1.0)
        self._report(1.0)

    def within(self, percent: float) -> None:
        """Report DuckDB's progress within the step's statement: 0 to 100, less than 0 when none runs."""
        first, last = self._step
        self._report(first + (last - first) * min(max(percent, 0.0), 100.0) / 100.0)

    def _report(self, share: float) -> None:
        if share > self._reported:
            self._reported = share
            self._notify(share)
