"""Tables of selling: clicks, orders, stock, campaigns, reviews."""

from __future__ import annotations

import random
from datetime import timedelta

from evals.tables.cells import Cell, Table, column, day, instant, money, often, sentences, text, weighted


def clickstream(chance: random.Random) -> Table:
    """An event log of a shop: page views, clicks, carts, purchases."""
    count = 4_000
    kinds = [weighted(chance, page_view=60, click=22, add_to_cart=10, purchase=5, search=8) for _ in range(count)]
    users = [often(chance, 450) for _ in range(count)]
    return [
        ("event_time", column(count, lambda _: text(instant(chance, 90)))),
        ("user_id", [f"u{user:05d}" for user in users]),
        ("session_id", [f"s{user:05d}-{chance.randint(1, 5)}" for user in users]),
        ("event_type", [*kinds]),
        ("product_id", column(count, lambda _: f"p{often(chance, 240):04d}")),
        ("category", column(count, lambda _: weighted(chance, shoes=4, books=3, garden=2, toys=2, electronics=5))),
        ("price", [money(chance, 35) if kind != "search" else None for kind in kinds]),
        ("device_type", column(count, lambda _: weighted(chance, mobile=6, desktop=3, tablet=1))),
        ("country", column(count, lambda _: weighted(chance, DE=4, FR=3, US=5, JP=1, BR=2))),
        ("referrer", column(count, lambda _: weighted(chance, google=5, direct=4, newsletter=1, social=2))),
        ("dwell_seconds", [round(chance.expovariate(1 / 40), 1) if kind == "page_view" else None for kind in kinds]),
    ]


def orders(chance: random.Random) -> Table:
    """Orders of a shop with what came back."""
    count = 3_000
    states = [weighted(chance, delivered=80, refunded=9, cancelled=6, shipped=5) for _ in range(count)]
    customers = [often(chance, 520) for _ in range(count)]
    placed = [instant(chance, 540) for _ in range(count)]
    back: list[Cell] = [
        day(moment + timedelta(days=chance.randint(3, 30))) if state == "refunded" else None
        for moment, state in zip(placed, states, strict=True)
    ]
    return [
        ("order_id", column(count, lambda row: f"ORD-{100_000 + row}")),
        ("customer_id", [*customers]),
        ("customer_email", [f"user{customer}@example.com" for customer in customers]),
        ("order_date", [text(moment) for moment in placed]),
        ("product_category", column(count, lambda _: weighted(chance, apparel=5, home=3, beauty=2, sports=2, toys=1))),
        ("quantity", column(count, lambda _: chance.choice([1, 1, 1, 2, 2, 3, 4, 6]))),
        ("unit_price", column(count, lambda _: money(chance, 28))),
        ("discount_amount", column(count, lambda _: chance.choice([0.0, 0.0, 0.0, 5.0, 10.0, 2.5]))),
        ("shipping_cost", column(count, lambda _: round(chance.uniform(0, 15), 2))),
        ("order_status", [*states]),
        ("payment_method", column(count, lambda _: weighted(chance, credit_card=6, paypal=3, invoice=1, gift_card=1))),
        ("return_date", back),
        ("coupon_code", column(count, lambda _: chance.choice([None, None, None, "SPRING", "WELCOME10", "VIP"]))),
    ]


def inventory(chance: random.Random) -> Table:
    """Daily stock of a retailer's shops."""
    count = 3_600
    return [
        ("date", column(count, lambda row: day(instant(random.Random(row // 60), 180)))),
        ("store_id", column(count, lambda row: f"S{1 + row % 12:02d}")),
        ("sku", column(count, lambda row: f"SKU{1 + row // 12 % 60:04d}")),
        (
            "product_group",
            column(count, lambda row: ["dairy", "bakery", "produce", "frozen", "household"][row // 12 % 5]),
        ),
        ("stock_on_hand", column(count, lambda _: max(0, round(chance.gauss(60, 35))))),
        ("units_sold", column(count, lambda _: max(0, round(chance.gauss(14, 9))))),
        ("units_received", column(count, lambda _: chance.choice([0, 0, 0, 20, 40, 100]))),
        ("shelf_price", column(count, lambda _: money(chance, 4))),
        ("on_promotion", column(count, lambda _: int(chance.random() < 0.12))),
        ("supplier", column(count, lambda _: weighted(chance, Nordfarm=3, Bellini=2, Kato=1))),
        ("lead_time_days", column(count, lambda _: chance.randint(1, 14))),
        ("stockout", column(count, lambda _: int(chance.random() < 0.07))),
    ]


def campaigns(chance: random.Random) -> Table:
    """Daily numbers of advertising campaigns."""
    count = 2_400
    seen = [max(100, round(chance.lognormvariate(8.5, 0.8))) for _ in range(count)]
    clicked = [round(number * chance.uniform(0.005, 0.04)) for number in seen]
    return [
        ("report_date", column(count, lambda row: day(instant(random.Random(row // 30), 120)))),
        ("campaign_id", column(count, lambda row: 7_000 + row % 30)),
        ("campaign_name", column(count, lambda row: ["Brand", "Retarget", "Spring", "Launch", "Video"][row % 5])),
        ("channel", column(count, lambda row: ["search", "social", "display", "email"][row % 4])),
        ("impressions", [*seen]),
        ("clicks", [*clicked]),
        ("conversions", [round(number * chance.uniform(0, 0.1)) for number in clicked]),
        ("spend_usd", [round(number * chance.uniform(0.2, 1.4), 2) for number in clicked]),
        ("revenue_usd", [round(number * chance.uniform(0, 4), 2) for number in clicked]),
        ("audience", column(count, lambda _: weighted(chance, lookalike=3, existing=2, broad=5))),
    ]


def reviews(chance: random.Random) -> Table:
    """What buyers wrote."""
    count = 1_800
    parts = (
        ("The", "This", "My new", "I think the"), ("shoes", "parcel", "fabric", "charger", "refund", "support team"),
        ("arrived late", "is GREAT!!!", "broke after a week", "works as expected", "was a waste of money", "fits well"),
        ("and I would buy it again.", "so I sent it back.", "- 10/10.", "but nobody answered.", "which is fine."),
    )  # fmt: skip
    return [
        ("review_id", column(count, lambda row: f"r{row:06d}")),
        ("product_id", column(count, lambda _: f"p{often(chance, 160):04d}")),
        ("reviewer_id", column(count, lambda _: f"w{often(chance, 700):05d}")),
        ("review_title", column(count, lambda row: sentences(chance, parts[:2], 1, 1) + f" no {row}")),
        ("review_text", column(count, lambda row: sentences(chance, parts, 1, 5) + f" ({row})")),
        ("stars", column(count, lambda _: chance.choice([1, 2, 3, 4, 4, 5, 5, 5]))),
        ("helpful_votes", column(count, lambda _: int(chance.expovariate(0.4)))),
        ("verified_purchase", column(count, lambda _: chance.choice(["true", "true", "true", "false"]))),
        ("created_at", column(count, lambda _: text(instant(chance, 700)))),
        ("language", column(count, lambda _: weighted(chance, en=8, de=2, es=1))),
    ]
