"""Generate an event log of an online shop: what users were shown, clicked and bought over sixty days.

It has what real logs have and feature code trips over: a few users and items with most of the events, daily and weekly
rhythm, prices only where items were put into a cart or bought, missing values, quoted commas, and letters beyond ASCII.
It is drawn from a seeded generator of the standard library, so the same seed gives the same bytes.

`python -m tools.demo.sample FILE` writes it to a file.
"""

from __future__ import annotations

import csv
import sys
from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from math import exp
from pathlib import Path
from random import Random
from typing import NamedTuple

COLUMNS = (
    "event_time", "user_id", "session_id", "item_id", "category", "event_type", "price", "device", "country",
    "position", "dwell_seconds",
)  # fmt: skip
DAYS = 60
FIRST_DAY = datetime(2026, 3, 2, tzinfo=UTC)
"""A Monday."""

_USERS = 1_500
_ITEMS_IN_CATEGORY = 60
_DAY_SECONDS = 86_400
_HOURS = (3, 2, 1, 1, 1, 2, 4, 7, 9, 9, 9, 10, 12, 11, 9, 9, 10, 12, 15, 18, 20, 18, 12, 6)
"""Relative traffic of each hour (UTC): quiet at night, a lunch hump, the evening peak of a shop."""
_WEEKDAYS = (10, 9, 9, 10, 11, 15, 14)
"""Relative traffic, Monday to Sunday."""


class Category(NamedTuple):
    """A department of the shop."""

    name: str
    price_mean: float
    """Mean of ln(price)."""
    price_spread: float
    """Standard deviation of ln(price)."""
    click: float
    """Multiplies the probability of a click."""
    cart: float
    """Probability that a click puts the item into the cart."""
    purchase: float
    """Probability that an item in the cart is bought."""


class Device(NamedTuple):
    """A kind of device, with how likely its users click and buy."""

    name: str
    weight: float
    click: float
    purchase: float


CATEGORIES = (
    Category("electronics", 4.7, 0.8, 1.10, 0.20, 0.30),
    Category("books", 2.6, 0.4, 0.90, 0.36, 0.66),
    Category("fashion", 3.6, 0.6, 1.25, 0.38, 0.34),
    Category("home, garden", 3.9, 0.7, 0.85, 0.26, 0.44),
    Category("beauty", 2.9, 0.5, 1.00, 0.34, 0.56),
    Category("sports", 3.8, 0.7, 0.95, 0.24, 0.42),
    Category("café & thé", 2.3, 0.5, 0.80, 0.44, 0.70),
)
DEVICES = (
    Device("mobile", 0.58, 0.90, 0.75),
    Device("desktop", 0.32, 1.15, 1.30),
    Device("tablet", 0.10, 1.00, 1.00),
)
COUNTRIES = (
    ("Germany", 24), ("France", 16), ("United Kingdom", 15), ("España", 12), ("Österreich", 8), ("Polska", 8),
    ("Türkiye", 8), ("日本", 5), ("Côte d'Ivoire", 4),
)  # fmt: skip


class _User(NamedTuple):
    id: str
    country: str
    device: Device
    favourite: int
    interest: float
    intent: float
    since: int


class _Shop(NamedTuple):
    """Everything that is drawn once, before the first event."""

    users: tuple[_User, ...]
    pick_user: Callable[[Random], int]
    pick_item: Callable[[Random], int]
    prices: tuple[tuple[float, ...], ...]
    days: tuple[float, ...]
    """Cumulative traffic up to the end of each day."""
    pick_hour: Callable[[Random], int]


Event = tuple[float, str, str, str, str, str, str, str, str, str, str]
"""Seconds since `FIRST_DAY`, then the other columns as written."""


def write_event_log(path: Path, *, rows: int = 60_000, seed: int = 7) -> None:
    """Write `rows` events in order of time as UTF-8 CSV with a header line; the same seed gives the same bytes.

    Raises ValueError for fewer than one row.
    """
    if rows < 1:
        raise ValueError("An event log has at least one row.")
    rng = Random(seed)  # noqa: S311 -- sample data must be repeatable, and protects nothing
    events = _events(_shop(rng, rows), rng, rows)
    events.sort()
    days = [(FIRST_DAY + timedelta(days=day)).date().isoformat() for day in range(DAYS + 2)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows((_timestamp(days, event[0]), *event[1:]) for event in events)


def _timestamp(days: Sequence[str], seconds: float) -> str:
    whole = int(seconds)
    day, second = divmod(whole, _DAY_SECONDS)
    hour, second = divmod(second, 3600)
    minute, second = divmod(second, 60)
    return f"{days[day]}T{hour:02}:{minute:02}:{second:02}.{int((seconds - whole) * 1000):03}Z"


def _weighted(weights: Sequence[float]) -> Callable[[Random], int]:
    """Return a function that draws indices in proportion to the weights."""
    bounds = list(accumulate(weights))
    total, last = bounds[-1], len(bounds) - 1
    return lambda rng: min(bisect(bounds, rng.random() * total), last)


def _happens(rng: Random, probability: float) -> bool:
    return rng.random() < probability


def _shop(rng: Random, rows: int) -> _Shop:
    count = max(1, min(_USERS, rows // 20))
    traffic = [_WEEKDAYS[day % 7] * (1 + day / (2 * DAYS)) for day in range(DAYS)]
    return _Shop(
        users=tuple(_users(rng, count)),
        pick_user=_weighted([(rank + 8) ** -0.85 for rank in range(count)]),
        pick_item=_weighted([(rank + 1) ** -0.9 for rank in range(_ITEMS_IN_CATEGORY)]),
        prices=tuple(
            tuple(rng.lognormvariate(category.price_mean, category.price_spread) for _ in range(_ITEMS_IN_CATEGORY))
            for category in CATEGORIES
        ),
        days=tuple(accumulate(traffic)),
        pick_hour=_weighted(_HOURS),
    )


def _users(rng: Random, count: int) -> Iterator[_User]:
    pick_country = _weighted([weight for _, weight in COUNTRIES])
    pick_device = _weighted([device.weight for device in DEVICES])
    pick_favourite = _weighted([6, 5, 6, 4, 4, 3, 2])
    for number in range(count):
        yield _User(
            id=f"u{number + 1:05}",
            country="" if _happens(rng, 0.02) else COUNTRIES[pick_country(rng)][0],
            device=DEVICES[pick_device(rng)],
            favourite=pick_favourite(rng),
            interest=exp(rng.gauss(0.0, 0.45)),
            intent=exp(rng.gauss(0.0, 0.35)),
            since=0 if _happens(rng, 0.6) else int(rng.random() * (DAYS - 5)),
        )


def _events(shop: _Shop, rng: Random, rows: int) -> list[Event]:
    """Draw sessions until there are enough events: first one for each user, so that all appear, then by activity."""
    events: list[Event] = []
    session = 0
    while len(events) < rows:
        index = session if session < len(shop.users) else shop.pick_user(rng)
        events.extend(_session(shop, shop.users[index], rng))
        session += 1
    return events[:rows]


def _session(shop: _Shop, user: _User, rng: Random) -> Iterator[Event]:
    """Draw one visit: a page of items shown from position 1 down, and the events of each."""
    name = f"s{rng.getrandbits(40):010x}"
    moment = _visit_start(shop, user, rng)
    device = user.device if _happens(rng, 0.85) else DEVICES[int(rng.random() * len(DEVICES))]
    shown_on = "" if _happens(rng, 0.01) else device.name
    for position in range(1, 4 + int(rng.random() * 10)):
        kind = user.favourite if _happens(rng, 0.45) else int(rng.random() * len(CATEGORIES))
        rank = shop.pick_item(rng)
        category, item = CATEGORIES[kind], f"i{kind * _ITEMS_IN_CATEGORY + rank + 1:04}"
        price = shop.prices[kind][rank]
        moment += 0.8 + rng.random() * 6
        for event, dwell in _outcome(category, device, user, position, rng):
            paid = f"{price * (0.9 + 0.1 * rng.random()):.2f}" if event in {"add_to_cart", "purchase"} else ""
            place = str(position) if event in {"impression", "click"} else ""
            seconds = f"{dwell:.1f}" if dwell else ""
            yield moment, user.id, name, item, category.name, event, paid, shown_on, user.country, place, seconds
            moment += 0.5 + (dwell or 1.0)


def _visit_start(shop: _Shop, user: _User, rng: Random) -> float:
    """Draw the start of a visit in seconds since `FIRST_DAY`, on a day since the user came to the shop."""
    before = shop.days[user.since - 1] if user.since else 0.0
    day = min(bisect(shop.days, before + rng.random() * (shop.days[-1] - before)), DAYS - 1)
    return day * _DAY_SECONDS + shop.pick_hour(rng) * 3600 + rng.random() * 3600


def _outcome(
    category: Category, device: Device, user: _User, position: int, rng: Random
) -> Iterator[tuple[str, float | None]]:
    """Draw the events of one shown item with the seconds spent on each; lower positions get fewer clicks."""
    yield "impression", None
    if not _happens(rng, 0.34 * position**-0.55 * category.click * device.click * user.interest):
        return
    yield "click", None if _happens(rng, 0.04) else min(rng.lognormvariate(3.2, 0.8), 900.0)
    if not _happens(rng, category.cart * user.intent):
        return
    yield "add_to_cart", None
    if _happens(rng, category.purchase * device.purchase * user.intent):
        yield "purchase", None


if __name__ == "__main__":
    write_event_log(Path(sys.argv[1]))
