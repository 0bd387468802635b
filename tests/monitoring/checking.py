"""Whether a query is alive: asked of a real Prometheus, part by part.

A query that brings something can still be half dead: in `a or b`, `sum by (gone) (x)` or `{gone!~"x"}` a name that
nobody writes any more changes nothing that Prometheus would call an error. So every selector has to find series, and
every label that the query names has to be on the series it is asked of.
"""

from __future__ import annotations

import http.client
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

from tests.monitoring.boards import Asked
from tests.monitoring.promql import needs
from tools.gameday.dashboards import Series

LONGEST_OFFSET_SECONDS = 150.0
"""Beyond which no annotation looks back."""


class QueryFailed(Exception):
    """Prometheus refused the query; the message is its own."""


@dataclass
class Prometheus:
    """A real Prometheus, asked about one moment; answers are kept, since the moment does not change."""

    address: str
    moment: float
    since: float
    """Where a range begins, in seconds since the epoch."""
    _instant: dict[str, Series] = field(default_factory=dict)
    _course: dict[str, Series] = field(default_factory=dict)
    _connection: http.client.HTTPConnection | None = None

    def instant(self, expression: str) -> Series:
        """The series of an expression with their values. Raises QueryFailed."""
        if expression not in self._instant:
            answer = self.ask("query", query=expression, time=f"{self.moment}")
            if answer["resultType"] == "scalar":
                self._instant[expression] = [({}, float(answer["result"][1]))]
            elif answer["resultType"] == "string":
                self._instant[expression] = []
            else:
                self._instant[expression] = [(one["metric"], float(one["value"][1])) for one in answer["result"]]
        return self._instant[expression]

    def course(self, expression: str) -> Series:
        """The series of an expression over the whole run and what an offset makes of it, with their last values.

        Raises QueryFailed.
        """
        if expression not in self._course:
            end = f"{self.moment + LONGEST_OFFSET_SECONDS}"
            answer = self.ask("query_range", query=expression, start=f"{self.since}", end=end, step="1")
            self._course[expression] = [(one["metric"], float(one["values"][-1][1])) for one in answer["result"]]
        return self._course[expression]

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.close()

    def ask(self, path: str, **parameters: str) -> Any:
        """Call the API and give the answer's data. Raises QueryFailed."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection(urlsplit(self.address).netloc, timeout=30)
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        self._connection.request("POST", f"/api/v1/{path}", urlencode(parameters), form)
        answer = json.loads(self._connection.getresponse().read())
        if answer["status"] != "success":
            raise QueryFailed(answer["error"])
        return answer["data"]


def faults(asked: Asked, prometheus: Prometheus) -> list[str]:
    """What is wrong with a query: nothing, when it is alive. Stops at the first thing that cannot be asked at all."""
    try:
        ask = prometheus.course if asked.kind == "annotation" else prometheus.instant
        found = _missing_parts(asked, ask) or _result(asked, ask)
    except (ValueError, QueryFailed) as error:
        found = [str(error)]
    return [f"{asked.where}: {fault}" for fault in found]


def _missing_parts(asked: Asked, ask: Callable[[str], Series]) -> list[str]:
    found: list[str] = []
    for need in needs(asked.filled()):
        series = ask(need.query)
        if not series:
            found.append(f"nothing is {need.query}")
        present = {label for labels, _ in series for label in labels}
        found += [f"no {label} on {need.query}" for label in need.labels if label not in present]
    return found


def _result(asked: Asked, ask: Callable[[str], Series]) -> list[str]:
    ask(asked.filled())
    series = ask(asked.uncounted())
    present = {label for labels, _ in series for label in labels}
    found = [] if series or not asked.always else ["no series"]
    found += [f"no label {label} to show" for label in asked.labels if label not in present]
    if any(math.isnan(value) for _, value in series):
        found.append("not a number")
    return found
