"""The data pool: datasets, and requests for features of which no two are equal unless a repeat is wanted."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import NamedTuple

from loadtest.errors import BadInput
from loadtest.traffic.scenario import Data

FIRST_DAY = datetime(2026, 1, 5, tzinfo=UTC)
DAYS = 180
ROWS_OF_A_USER = 10
MAX_REPEATED = 50
"""Requests that are remembered for repeats."""
MAX_DEVIATIONS = 4.0
"""Standard deviations by which chance may make more clients ask for features than come on average."""

_STATISTICS = ("average", "total", "largest", "smallest", "median", "standard deviation of")
_COLUMNS = ("price", "quantity", "duration")
_WINDOWS = ("", *(f" in the last {days} days" for days in (7, 14, 21, 30, 45, 60, 75, 90, 120, 150)))
_KINDS = ("", " and how often each came", " and the number of orders", " and the share of clicks")


class Wish(NamedTuple):
    """A request for features."""

    dataset_id: str
    sentence: str
    repeated: bool = False


def table(rows: int, seed: int) -> bytes:
    """Write an event log as CSV, the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311 - rows for a test, no secret
    users = max(1, rows // ROWS_OF_A_USER)
    lines = io.StringIO()
    lines.write("user_id,time,event,price,quantity,duration\n")
    for _ in range(rows):
        moment = FIRST_DAY + timedelta(minutes=chance.randrange(DAYS * 24 * 60))
        lines.write(
            f"u{chance.randrange(users):06d},{moment:%Y-%m-%dT%H:%M:%S},{chance.choice(('view', 'click', 'order'))},"
            f"{chance.lognormvariate(3, 0.6):.2f},{chance.randrange(1, 9)},{chance.expovariate(1 / 90):.1f}\n"
        )
    return lines.getvalue().encode()


def sentences_of_the_pool() -> list[str]:
    """Give every sentence of the built-in pool, each different and each understood by the built-in planner."""
    return [
        f"The {statistic} {column} of each user{window}{kind}"
        for statistic, column, window, kind in product(_STATISTICS, _COLUMNS, _WINDOWS, _KINDS)
    ]


class Pool:
    """Deals out wishes: a chosen share repeats earlier ones, the others are new until the pool is used up."""

    def __init__(
        self, dataset_ids: Sequence[str], data: Data, repeat_share: float, *, share: int = 0, shares: int = 1
    ) -> None:
        wishes = [Wish(dataset, sentence) for sentence in _sentences(data) for dataset in dataset_ids]
        self._chance = random.Random(data.seed * 1000 + share)  # noqa: S311 - the order of requests is no secret
        self._chance.shuffle(wishes) if shares == 1 else random.Random(data.seed).shuffle(wishes)  # noqa: S311
        self._new = iter(wishes[share::shares])
        self._repeat_share = repeat_share
        self._made: list[Wish] = []

    def draw(self) -> Wish:
        """Give the next wish. Raises BadInput when nothing new is left."""
        if self._made and self._chance.random() < self._repeat_share:
            return self._chance.choice(self._made)._replace(repeated=True)
        wish = next(self._new, None)
        if wish is None:
            raise BadInput("the data pool is used up: give the scenario more datasets or sentences")
        if len(self._made) < MAX_REPEATED:
            self._made.append(wish)
        return wish


def _sentences(data: Data) -> list[str]:
    """Give the different sentences."""
    return sentences_of_the_pool() if data.sentences is None else list(dict.fromkeys(data.sentences))


def require_enough(data: Data, repeat_share: float, wishes: float, shares: int = 1) -> None:
    """Raise BadInput when a run of so many requests for features, on average, might run out of new ones."""
    there = data.datasets * len(_sentences(data))
    mean = wishes * (1 - repeat_share) / shares
    needed = shares * (mean + MAX_DEVIATIONS * math.sqrt(mean) + 1)
    if needed > there:
        raise BadInput(
            f"the data pool has {there} different requests and this run needs about {needed:.0f}: give the scenario "
            f"more datasets or sentences, or a larger repeat_share"
        )
