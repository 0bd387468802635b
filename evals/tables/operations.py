"""Tables of machines, roads and servers."""

from __future__ import annotations

import random
from datetime import timedelta

from evals.tables.cells import END, Cell, Table, column, instant, money, often, sentences, text, weighted


def sensors(chance: random.Random) -> Table:
    """Readings of machines on two sites, every ten minutes."""
    count = 4_000
    return [
        ("ts", column(count, lambda row: text(END - timedelta(minutes=10 * (row // 8))))),
        ("sensor_id", column(count, lambda row: f"m-{row % 8}")),
        ("site", column(count, lambda row: ["Graz", "Leipzig"][row % 2])),
        ("temperature_c", column(count, lambda row: round(40 + row % 8 + chance.gauss(0, 4), 2))),
        ("humidity_pct", column(count, lambda _: round(chance.uniform(20, 70), 1))),
        (
            "vibration_mm_s",
            column(count, lambda _: None if chance.random() < 0.03 else round(chance.expovariate(0.8), 3)),
        ),
        ("battery_v", column(count, lambda _: round(chance.gauss(3.6, 0.15), 3))),
        ("rpm", column(count, lambda _: round(chance.gauss(1500, 120)))),
        ("state", column(count, lambda _: weighted(chance, running=90, idle=7, alarm=3))),
        ("failure_within_24h", column(count, lambda _: int(chance.random() < 0.02))),
        ("maintenance_ticket", column(count, lambda _: int(chance.random() < 0.02))),
    ]


def weblogs(chance: random.Random) -> Table:
    """Lines of an application's access log."""
    count = 4_000
    routes = ("/login", "/api/v1/items", "/api/v1/cart", "/search", "/health", "/checkout", "/admin")
    messages = (("request", "upstream", "query", "cache"), ("served", "timed out", "refused", "missed"),
                ("in", "after"), ("time", "retry", "3 tries"))  # fmt: skip
    addresses = [f"10.{often(chance, 200) % 256}.{chance.randint(0, 3)}.{chance.randint(1, 40)}" for _ in range(count)]
    return [
        ("@timestamp", column(count, lambda _: text(instant(chance, 14)))),
        ("request.id", column(count, lambda _: f"{chance.getrandbits(128):032x}")),
        ("client_ip", [*addresses]),
        ("user.id", column(count, lambda _: often(chance, 380) if chance.random() < 0.8 else None)),
        ("http.method", column(count, lambda _: weighted(chance, GET=8, POST=3, DELETE=1))),
        ("url.path", column(count, lambda _: chance.choice(routes))),
        (
            "http.status_code",
            column(count, lambda _: chance.choices([200, 201, 304, 404, 401, 500, 503], [70, 8, 6, 6, 4, 4, 2])[0]),
        ),
        ("response_bytes", column(count, lambda _: round(chance.lognormvariate(8, 1.3)))),
        ("latency_ms", column(count, lambda _: round(chance.lognormvariate(4, 0.9), 1))),
        ("log.level", column(count, lambda _: weighted(chance, INFO=88, WARN=8, ERROR=4))),
        ("service.name", column(count, lambda _: weighted(chance, web=5, cart=2, auth=2))),
        ("message", column(count, lambda row: sentences(chance, messages, 1, 3) + f" #{row}")),
    ]


def rides(chance: random.Random) -> Table:
    """Trips of a ride service."""
    count = 3_200
    begun = [instant(chance, 60) for _ in range(count)]
    minutes = [max(3, round(chance.lognormvariate(2.8, 0.5))) for _ in range(count)]
    zones = ("Airport", "Downtown", "Harbour", "Old Town", "University", "Stadium")
    return [
        ("trip_id", column(count, lambda row: f"T{row:07d}")),
        ("driver_id", column(count, lambda _: f"D{often(chance, 180):04d}")),
        ("rider_id", column(count, lambda _: f"R{often(chance, 900):05d}")),
        ("pickup_datetime", [text(moment) for moment in begun]),
        ("dropoff_datetime", [text(a + timedelta(minutes=b)) for a, b in zip(begun, minutes, strict=True)]),
        ("pickup_zone", column(count, lambda _: chance.choice(zones))),
        ("dropoff_zone", column(count, lambda _: chance.choice(zones))),
        ("distance_km", [round(number * chance.uniform(0.3, 0.8), 2) for number in minutes]),
        ("fare_amount", column(count, lambda _: money(chance, 14))),
        ("tip_amount", column(count, lambda _: round(chance.choice([0, 0, 1, 2, 3.5]) * chance.random() * 2, 2))),
        ("surge_multiplier", column(count, lambda _: chance.choice([1.0, 1.0, 1.0, 1.2, 1.5, 2.0]))),
        ("payment_type", column(count, lambda _: weighted(chance, card=7, cash=2, wallet=1))),
        ("passenger_count", column(count, lambda _: chance.choice([1, 1, 1, 2, 3, 4]))),
        ("rider_rating", column(count, lambda _: chance.choice([None, 3, 4, 5, 5, 5]))),
        ("cancelled", column(count, lambda _: int(chance.random() < 0.08))),
    ]


def factory(chance: random.Random) -> Table:
    """A wide table: 150 channels of a production line beside what became of the piece."""
    count = 600
    channels: Table = [
        (f"{kind}_{number:03d}", _channel(chance, count, number))
        for number, kind in enumerate((["pressure", "temperature", "torque", "flow", "current"] * 30), start=1)
    ]
    return [
        ("produced_at", column(count, lambda _: text(instant(chance, 30)))),
        ("piece_id", column(count, lambda row: f"PC-{row:06d}")),
        ("line", column(count, lambda _: weighted(chance, A=3, B=2, C=1))),
        ("operator_shift", column(count, lambda _: weighted(chance, early=3, late=3, night=1))),
        *channels,
        ("cycle_time_s", column(count, lambda _: round(chance.gauss(42, 3), 2))),
        ("scrap", column(count, lambda _: int(chance.random() < 0.06))),
        ("rework_cost", column(count, lambda _: money(chance, 20) if chance.random() < 0.1 else 0.0)),
    ]


def _channel(chance: random.Random, count: int, number: int) -> list[Cell]:
    return [round(chance.gauss(number, 1 + number / 50), 3) for _ in range(count)]
