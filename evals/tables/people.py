"""Tables about people and their accounts: banks, subscriptions, hospitals, employees, credit."""

from __future__ import annotations

import random
from datetime import timedelta

from evals.tables.cells import Cell, Table, column, day, instant, money, often, text, weighted

NAMES = ("Anna Weber", "James Miller", "Maria Rossi", "Peter Novak", "Laura Smith", "Kevin Jones", "Julia Klein")


def bank(chance: random.Random) -> Table:
    """Card payments, some of them fraudulent, with what the investigation found later."""
    count = 4_000
    fraud = [int(chance.random() < 0.03) for _ in range(count)]
    return [
        ("transaction_id", column(count, lambda row: f"tx{row:08d}")),
        ("account_id", column(count, lambda _: f"A{often(chance, 420):06d}")),
        ("card_number", column(count, lambda _: f"4{chance.randrange(10**15):015d}")),
        ("booked_at", column(count, lambda _: text(instant(chance, 120)))),
        ("amount", column(count, lambda _: money(chance, 42))),
        ("currency", column(count, lambda _: weighted(chance, EUR=8, USD=2, GBP=1))),
        ("merchant_id", column(count, lambda _: f"M{often(chance, 300):05d}")),
        (
            "merchant_category",
            column(count, lambda _: weighted(chance, grocery=5, travel=2, gambling=1, fuel=2, electronics=2)),
        ),
        ("entry_mode", column(count, lambda _: weighted(chance, chip=6, online=4, contactless=5, magstripe=1))),
        ("merchant_country", column(count, lambda _: weighted(chance, DE=7, NL=2, US=1, NG=1))),
        ("account_balance", column(count, lambda _: money(chance, 900))),
        ("declined", column(count, lambda _: int(chance.random() < 0.05))),
        ("is_fraud", [*fraud]),
        ("chargeback_amount", [money(chance, 80) if flag else 0.0 for flag in fraud]),
    ]


def subscriptions(chance: random.Random) -> Table:
    """Accounts of a software service, one row each, with those that left."""
    count = 1_500
    left = [chance.random() < 0.2 for _ in range(count)]
    return [
        ("account_id", column(count, lambda row: f"acc_{row:05d}")),
        ("company_size", column(count, lambda _: weighted(chance, small=5, medium=3, enterprise=1))),
        ("industry", column(count, lambda _: weighted(chance, retail=3, health=2, finance=2, education=1))),
        ("plan", column(count, lambda _: weighted(chance, free=3, starter=4, team=3, business=1))),
        ("mrr_usd", column(count, lambda _: money(chance, 120))),
        ("seats_purchased", column(count, lambda _: 1 + int(chance.expovariate(0.1)))),
        ("seats_active", column(count, lambda _: int(chance.expovariate(0.15)))),
        ("signed_up_at", column(count, lambda _: text(instant(chance, 1000)))),
        ("last_login_at", column(count, lambda _: text(instant(chance, 90)))),
        ("support_tickets_90d", column(count, lambda _: int(chance.expovariate(0.6)))),
        ("nps_score", column(count, lambda _: chance.choice([None, None, chance.randint(0, 10)]))),
        ("auto_renew", column(count, lambda _: chance.choice(["yes", "yes", "no"]))),
        ("churned", ["true" if flag else "false" for flag in left]),
        ("cancellation_date", [day(instant(chance, 60)) if flag else None for flag in left]),
        ("cancellation_reason", [weighted(chance, price=3, features=2, closed=1) if flag else None for flag in left]),
    ]


def hospital(chance: random.Random) -> Table:
    """Stays in a hospital."""
    count = 2_600
    entered = [instant(chance, 720) for _ in range(count)]
    stays = [1 + int(chance.expovariate(0.2)) for _ in range(count)]
    return [
        ("admission_id", column(count, lambda row: 500_000 + row)),
        ("patient_id", column(count, lambda _: f"P{often(chance, 800):05d}")),
        ("patient_name", column(count, lambda _: chance.choice(NAMES))),
        ("date_of_birth", column(count, lambda _: day(instant(chance, 30_000)))),
        ("admitted_at", [text(moment) for moment in entered]),
        ("discharged_at", [text(a + timedelta(days=b)) for a, b in zip(entered, stays, strict=True)]),
        ("ward", column(count, lambda _: weighted(chance, cardiology=3, surgery=4, oncology=2, pediatrics=1))),
        ("admission_type", column(count, lambda _: weighted(chance, emergency=5, elective=4, transfer=1))),
        ("diagnosis_code", column(count, lambda _: chance.choice(["I21", "J18", "K35", "C50", "S72", "E11"]))),
        ("age", column(count, lambda _: min(99, max(0, round(chance.gauss(58, 19)))))),
        ("gender", column(count, lambda _: chance.choice(["F", "M"]))),
        ("num_medications", column(count, lambda _: int(chance.expovariate(0.1)))),
        ("num_procedures", column(count, lambda _: int(chance.expovariate(0.7)))),
        ("glucose_mg_dl", column(count, lambda _: None if chance.random() < 0.2 else round(chance.gauss(115, 30), 1))),
        ("insurance", column(count, lambda _: weighted(chance, public=7, private=2, none=1))),
        ("readmitted_30d", column(count, lambda _: int(chance.random() < 0.14))),
    ]


def employees(chance: random.Random) -> Table:
    """A staff list as people departments export it: capital letters and spaces."""
    count = 1_200
    return [
        ("Employee Number", column(count, lambda row: 1_000 + row)),
        ("Full Name", column(count, lambda row: f"{chance.choice(NAMES)} {row}")),
        ("Department", column(count, lambda _: weighted(chance, Sales=4, Research=5, HR=1))),
        ("Job Role", column(count, lambda _: chance.choice(["Manager", "Engineer", "Analyst", "Clerk"]))),
        ("Age", column(count, lambda _: chance.randint(19, 64))),
        ("Monthly Income", column(count, lambda _: round(money(chance, 4200)))),
        ("Percent Salary Hike", column(count, lambda _: chance.randint(0, 25))),
        ("Hire Date", column(count, lambda _: day(instant(chance, 7000)))),
        ("Last Promotion Date", column(count, lambda _: day(instant(chance, 2000)) if chance.random() < 0.7 else None)),
        ("Years In Current Role", column(count, lambda _: chance.randint(0, 15))),
        ("Distance From Home (km)", column(count, lambda _: round(chance.expovariate(0.1), 1))),
        ("Over Time", column(count, lambda _: chance.choice(["Yes", "No", "No"]))),
        ("Job Satisfaction", column(count, lambda _: chance.randint(1, 4))),
        ("Work/Life Balance", column(count, lambda _: chance.randint(1, 4))),
        ("Exit Interview Score", column(count, lambda _: chance.randint(1, 10) if chance.random() < 0.15 else None)),
        ("Attrition", column(count, lambda _: chance.choice(["Yes", "No", "No", "No", "No"]))),
    ]


def credit(chance: random.Random) -> Table:
    """A wide table: 160 columns of a bureau on each applicant."""
    count = 700
    products = ("card", "mortgage", "carloan", "overdraft", "telecom", "leasing", "store", "student")
    facts = ("balance", "limit", "payments", "late_payments", "inquiries")
    spans = ("3m", "6m", "12m", "24m")
    bureau: Table = [
        (f"{product}_{fact}_{span}", _figure(chance, count, fact))
        for product in products for fact in facts for span in spans
    ]  # fmt: skip
    return [
        ("applicant_id", column(count, lambda row: f"AP{row:06d}")),
        ("application_date", column(count, lambda _: day(instant(chance, 365)))),
        ("annual_income", column(count, lambda _: money(chance, 41_000))),
        ("requested_amount", column(count, lambda _: round(money(chance, 9_000), -2))),
        ("employment_type", column(count, lambda _: weighted(chance, salaried=6, self_employed=2, retired=1))),
        ("housing", column(count, lambda _: weighted(chance, rent=4, own=3, family=1))),
        *bureau,
        ("defaulted", column(count, lambda _: int(chance.random() < 0.11))),
        ("collections_recovery_amount", column(count, lambda _: money(chance, 500) if chance.random() < 0.1 else 0.0)),
    ]


def _figure(chance: random.Random, count: int, fact: str) -> list[Cell]:
    if fact in {"balance", "limit"}:
        return [money(chance, 1_500) for _ in range(count)]
    return [int(chance.expovariate(0.5)) for _ in range(count)]
