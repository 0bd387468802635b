"""Features that analysts of eight fields ask for, in their words, each with the operation that says it."""

from __future__ import annotations

from typing import Any, NamedTuple


class Table(NamedTuple):
    """A table of events: its keys, and each column's logical and physical type with the values it takes."""

    entity: str
    time: str
    columns: dict[str, tuple[str, str, Any]]


def number(low: float, high: float) -> tuple[str, str, Any]:
    """A numeric column between two bounds."""
    return "numeric", "DOUBLE", (low, high)


def whole(low: int, high: int) -> tuple[str, str, Any]:
    """An integer column between two bounds."""
    return "integer", "BIGINT", (low, high)


def one_of(*values: str) -> tuple[str, str, Any]:
    """A categorical column of some values."""
    return "categorical", "VARCHAR", values


def text(*values: str) -> tuple[str, str, Any]:
    """A column of texts."""
    return "text", "VARCHAR", values


def key(prefix: str, count: int) -> tuple[str, str, Any]:
    """A column of so many identifiers."""
    return "identifier", "VARCHAR", tuple(f"{prefix}{place}" for place in range(count))


TIME = ("datetime", "TIMESTAMP", 0)
LATER = ("datetime", "TIMESTAMP", 1)
BEFORE = ("datetime", "TIMESTAMP", -1)
"""A time some weeks after, or years before, that of the row."""
FLAG = ("boolean", "BOOLEAN", (True, False))

TABLES = {
    "retail": Table(
        "customer",
        "ordered_at",
        {
            "customer": key("c", 6),
            "ordered_at": TIME,
            "order_id": key("o", 25),
            "product": one_of("tea", "mug", "pizza", "cake"),
            "category": one_of("food", "home", "veggie"),
            "price": number(1, 90),
            "quantity": whole(1, 5),
            "discount": number(0, 1),
            "returned": FLAG,
            "channel": one_of("shop", "web"),
            "delivered_at": LATER,
            "review": text("great gift", "too late, bad box", "fine"),
            "store": one_of("north", "south"),
        },
    ),
    "telecom": Table(
        "subscriber",
        "at",
        {
            "subscriber": key("s", 6),
            "at": TIME,
            "kind": one_of("call", "sms", "data"),
            "minutes": number(0, 60),
            "megabytes": number(0, 900),
            "peer": key("p", 8),
            "cell": one_of("a", "b", "c"),
            "dropped": FLAG,
            "roaming": FLAG,
            "tariff": one_of("basic", "plus", "max"),
            "signal": number(-110, -60),
        },
    ),
    "banking": Table(
        "account",
        "at",
        {
            "account": key("a", 6),
            "at": TIME,
            "amount": number(-500, 900),
            "balance": number(-100, 5000),
            "merchant": one_of("grocer", "fuel", "casino", "air"),
            "country": one_of("NL", "DE", "US"),
            "device": key("d", 9),
            "kind": one_of("debit", "credit"),
            "fraud": FLAG,
            "latitude": number(50, 54),
            "longitude": number(3, 9),
            "opened_at": BEFORE,
            "iban": text("NL01 ABNA", "DE02 DEUT", "NL03 INGB"),
        },
    ),
    "logistics": Table(
        "truck",
        "at",
        {
            "truck": key("t", 5),
            "at": TIME,
            "latitude": number(50, 54),
            "longitude": number(3, 9),
            "speed": number(0, 90),
            "status": one_of("driving", "idle", "loading"),
            "load": number(0, 20),
            "promised_at": LATER,
            "arrived_at": LATER,
            "depot_latitude": number(50, 54),
            "depot_longitude": number(3, 9),
            "route": one_of("A-1", "A-2", "B-1"),
        },
    ),
    "web": Table(
        "visitor",
        "at",
        {
            "visitor": key("v", 5),
            "at": TIME,
            "page": one_of("home", "search", "item", "cart", "paid"),
            "referrer": text("https://www.news.example/a/b?x=1", "https://search.example/q"),
            "dwell": number(0, 300),
            "device": one_of("phone", "desktop"),
            "campaign": one_of("spring", "none"),
            "value": number(0, 80),
            "visit": key("w", 30),
            "query": text("red shoes", "blue shoes cheap", "hat"),
        },
    ),
    "health": Table(
        "patient",
        "admitted_at",
        {
            "patient": key("p", 6),
            "admitted_at": TIME,
            "discharged_at": LATER,
            "born_at": BEFORE,
            "ward": one_of("er", "icu", "gp"),
            "diagnosis": one_of("flu", "heart", "injury"),
            "temperature": number(35, 41),
            "weight": number(45, 120),
            "height": number(1.5, 2.0),
            "urgent": FLAG,
            "pulse": whole(50, 140),
            "glucose": number(60, 200),
            "severity": one_of("low", "medium", "high"),
            "notes": text("no pain", "severe pain and fever", "fever"),
        },
    ),
    "energy": Table(
        "meter",
        "at",
        {
            "meter": key("m", 4),
            "at": TIME,
            "kwh": number(0, 9),
            "volts": number(210, 245),
            "outside": number(-8, 32),
            "state": one_of("on", "off", "fault"),
            "alarm": FLAG,
            "phase1": number(0, 30),
            "phase2": number(0, 30),
            "phase3": number(0, 30),
        },
    ),
    "sport": Table(
        "player",
        "played_at",
        {
            "player": key("p", 5),
            "played_at": TIME,
            "points": whole(0, 40),
            "minutes": number(0, 48),
            "home": FLAG,
            "won": FLAG,
            "opponent": one_of("lions", "bears", "wolves"),
            "position": one_of("guard", "centre"),
            "fouls": whole(0, 6),
            "grade": whole(1, 5),
            "shots": whole(1, 30),
            "team": one_of("red", "blue"),
        },
    ),
}


def where(*conditions: tuple[Any, ...]) -> list[dict[str, Any]]:
    """Predicates, each a column, a comparison and its values."""
    return [{"column": name, "comparison": how, "values": [*values]} for name, how, *values in conditions]


Asked = tuple[str, str, dict[str, Any] | None]
VEGGIE, FAULT = where(("category", "eq", "veggie")), where(("state", "eq", "fault"))
PAID, CART = where(("page", "eq", "paid")), where(("page", "eq", "cart"))
HOLIDAYS = ["2024-03-29", "2024-04-01", "2024-04-27", "2024-05-01"]
SERIES = {"column": "kwh", "time": "at"}
EARLIER = {"entity": "account", "time": "at"}

ASKED: list[Asked] = [
    ("retail", "days to the second order", {"kind": "days_between_events", "time": "ordered_at"}),
    ("retail", "last gap between purchases", {"kind": "last_gap", "time": "ordered_at"}),
    ("retail", "spread of the gaps", {"kind": "gap_statistic", "time": "ordered_at", "function": "standard_deviation"}),
    ("retail", "trend of the gaps", {"kind": "gap_trend", "time": "ordered_at"}),
    (
        "retail",
        "total revenue, price times quantity",
        {"kind": "aggregate_pair", "left": "price", "right": "quantity", "combine": "product", "function": "sum"},
    ),
    (
        "retail",
        "mean price of veggie products",
        {"kind": "aggregate", "column": "price", "function": "mean", "where": VEGGIE},
    ),
    (
        "retail",
        "weekend spend",
        {
            "kind": "aggregate_at",
            "time": "ordered_at",
            "part": "day_of_week",
            "values": [6, 7],
            "function": "sum",
            "column": "price",
        },
    ),
    (
        "retail",
        "share of spend on food",
        {"kind": "sum_share", "column": "price", "where": where(("category", "eq", "food"))},
    ),
    (
        "retail",
        "average order value from order lines",
        {"kind": "basket_statistic", "column": "order_id", "function": "mean", "weight": "price"},
    ),
    (
        "retail",
        "orders that hold both tea and a mug",
        {
            "kind": "baskets_with_both",
            "column": "order_id",
            "first": where(("product", "eq", "tea")),
            "second": where(("product", "eq", "mug")),
        },
    ),
    (
        "retail",
        "this 90 days against the 90 before, ratio of spend",
        {
            "kind": "compare_windows",
            "time": "ordered_at",
            "days": 90,
            "function": "sum",
            "column": "price",
            "comparison": "ratio",
        },
    ),
    (
        "retail",
        "orders against the same weeks a year before",
        {"kind": "compare_windows", "time": "ordered_at", "days": 60, "days_before": 365, "function": "count"},
    ),
    (
        "retail",
        "spend percentile among all customers",
        {"kind": "among_entities", "function": "sum", "column": "price", "place": "percent_rank"},
    ),
    (
        "retail",
        "mean delivery time",
        {"kind": "aggregate_elapsed", "start": "ordered_at", "end": "delivered_at", "function": "mean"},
    ),
    (
        "retail",
        "favourite category by spend in the last quarter",
        {"kind": "nth_category", "column": "category", "weight": "price", "last_days": 90},
    ),
    (
        "retail",
        "how much the mix of categories changed",
        {"kind": "inventory_similarity", "column": "category", "time": "ordered_at", "days": 60},
    ),
    ("retail", "how usual the mix of products is", {"kind": "inventory_typicality", "column": "product"}),
    (
        "retail",
        "categories bought for the first time this month",
        {"kind": "category_turnover", "column": "category", "time": "ordered_at", "days": 30, "figure": "new"},
    ),
    (
        "retail",
        "days since the last return",
        {"kind": "recency", "time": "ordered_at", "where": where(("returned", "eq", True))},
    ),
    (
        "retail",
        "monthly spend, its standard deviation",
        {
            "kind": "period_totals",
            "time": "ordered_at",
            "period": "month",
            "function": "standard_deviation",
            "column": "price",
        },
    ),
    (
        "retail",
        "spend weighed toward recent purchases",
        {"kind": "decayed_sum", "time": "ordered_at", "half_life_days": 30, "column": "price"},
    ),
    (
        "retail",
        "the three dearest purchases as a share of all",
        {"kind": "largest_values", "column": "price", "n": 3, "figure": "share"},
    ),
    (
        "retail",
        "category of the dearest purchase",
        {"kind": "value_at_extreme", "column": "category", "other": "price"},
    ),
    ("retail", "is the customer overdue", {"kind": "overdue_ratio", "time": "ordered_at"}),
    ("retail", "share of reviews that mention a gift", {"kind": "term_share", "column": "review", "term": "gift"}),
    (
        "retail",
        "one column per month: spend in March",
        {
            "kind": "aggregate_at",
            "time": "ordered_at",
            "part": "month",
            "values": [3],
            "function": "sum",
            "column": "price",
        },
    ),
    ("retail", "was it ordered on a public holiday", {"kind": "is_date_in", "column": "ordered_at", "dates": HOLIDAYS}),
    (
        "retail",
        "days to the next holiday",
        {"kind": "days_to_nearest_date", "column": "ordered_at", "dates": HOLIDAYS, "direction": "nearest"},
    ),
    ("retail", "top two products and rest", {"kind": "frequent_category", "column": "product", "k": 2}),
    (
        "retail",
        "price compared with the category's mean",
        {"kind": "difference_from_group", "column": "price", "group": "category", "comparison": "ratio"},
    ),
    ("retail", "cents of the price", {"kind": "remainder", "column": "price", "divisor": 1}),
    (
        "telecom",
        "out-of-fold rate of dropped calls of the tariff",
        {"kind": "out_of_fold_mean", "groups": ["tariff"], "target": "dropped"},
    ),
    (
        "telecom",
        "distinct people called",
        {"kind": "count_distinct", "column": "peer", "where": where(("kind", "eq", "call"))},
    ),
    ("telecom", "most called person's share", {"kind": "inventory_statistic", "column": "peer", "figure": "top_share"}),
    (
        "telecom",
        "entropy of cells over the last month",
        {"kind": "inventory_statistic", "column": "cell", "figure": "entropy", "last_days": 30},
    ),
    ("telecom", "calls at night", {"kind": "hour_share", "time": "at", "from_hour": 22, "to_hour": 6}),
    (
        "telecom",
        "data volume last week against the month",
        {
            "kind": "compare_windows",
            "time": "at",
            "days": 30,
            "function": "sum",
            "column": "megabytes",
            "comparison": "difference",
        },
    ),
    (
        "telecom",
        "minutes per call over minutes per roaming call",
        {
            "kind": "compare_conditions",
            "function": "mean",
            "column": "minutes",
            "numerator": where(("kind", "eq", "call")),
            "denominator": where(("roaming", "eq", True)),
        },
    ),
    (
        "telecom",
        "longest streak of dropped calls",
        {"kind": "longest_streak", "time": "at", "where": where(("dropped", "eq", True))},
    ),
    (
        "telecom",
        "time from a dropped call to the next call",
        {
            "kind": "response_time",
            "time": "at",
            "first": where(("dropped", "eq", True)),
            "then": where(("kind", "eq", "call")),
        },
    ),
    ("telecom", "median signal", {"kind": "aggregate", "column": "signal", "function": "median"}),
    ("telecom", "active days in a row, the longest", {"kind": "active_periods", "time": "at", "period": "week"}),
    (
        "telecom",
        "contacts lost in the last two months",
        {"kind": "category_turnover", "column": "peer", "time": "at", "days": 60, "figure": "gone"},
    ),
    (
        "telecom",
        "usage in the later half of the history over the earlier",
        {"kind": "compare_halves", "column": "megabytes", "time": "at", "function": "mean", "comparison": "ratio"},
    ),
    ("telecom", "contacts that the subscriber's contacts have in common", None),
    (
        "banking",
        "payments at this merchant in the last hour, whoever pays",
        {"kind": "earlier_in_group", "group": "merchant", "time": "at", "function": "count", "days": 30},
    ),
    (
        "banking",
        "amount compared with the account's usual one, in deviations",
        {"kind": "distance_from_history", "column": "amount", **EARLIER},
    ),
    (
        "banking",
        "distinct merchants in the week before",
        {"kind": "rolling_distinct", "column": "merchant", "days": 60, **EARLIER},
    ),
    ("banking", "first payment in this country", {"kind": "first_occurrence", "column": "country", **EARLIER}),
    (
        "banking",
        "speed needed since the previous payment",
        {
            "kind": "distance_from_previous",
            "latitude": "latitude",
            "longitude": "longitude",
            "figure": "km_per_hour",
            **EARLIER,
        },
    ),
    (
        "banking",
        "running balance: cumulative sum of amounts",
        {"kind": "cumulative_statistic", "column": "amount", "function": "sum", "include_row": True, **EARLIER},
    ),
    ("banking", "percent change of the balance", {"kind": "percent_change", "column": "balance", **EARLIER}),
    (
        "banking",
        "exponentially weighted mean of amounts",
        {"kind": "exponential_mean", "column": "amount", "half_life": 3, **EARLIER},
    ),
    (
        "banking",
        "seven-day mean over thirty-day mean",
        {"kind": "compare_rolling", "column": "amount", "short_days": 30, "long_days": 90, **EARLIER},
    ),
    ("banking", "accounts that share the device", {"kind": "group_distinct", "column": "account", "group": "device"}),
    ("banking", "outlier by the interquartile range", {"kind": "outlier_flag", "column": "amount", "method": "iqr"}),
    (
        "banking",
        "fraud rate of the merchant and country, out of fold",
        {"kind": "out_of_fold_mean", "groups": ["merchant", "country"], "target": "fraud"},
    ),
    ("banking", "share of the merchant in other folds", {"kind": "out_of_fold_frequency", "groups": ["merchant"]}),
    (
        "banking",
        "completed years since the account was opened",
        {"kind": "completed_periods", "start": "opened_at", "end": "at", "unit": "years"},
    ),
    (
        "banking",
        "country code of the IBAN",
        {"kind": "text_piece", "column": "iban", "piece": "first_characters", "characters": 2},
    ),
    ("banking", "balance thirty days ago", {"kind": "value_days_ago", "column": "balance", "time": "at", "days": 30}),
    (
        "banking",
        "how the balance moved in ninety days",
        {"kind": "change_since", "column": "balance", "time": "at", "days": 90, "comparison": "difference"},
    ),
    (
        "banking",
        "largest drawdown of the balance",
        {"kind": "series_shape", "column": "balance", "time": "at", "figure": "maximum_drawdown"},
    ),
    ("banking", "log return of the balance", {"kind": "log_return", "column": "balance", **EARLIER}),
    ("banking", "rank correlation of amount and balance", None),
    ("banking", "Gini coefficient of amounts", {"kind": "gini", "column": "balance"}),
    (
        "logistics",
        "kilometres driven",
        {"kind": "track", "latitude": "latitude", "longitude": "longitude", "time": "at", "figure": "total_km"},
    ),
    (
        "logistics",
        "distance from the depot",
        {
            "kind": "distance",
            "latitude": "latitude",
            "longitude": "longitude",
            "to_latitude": "depot_latitude",
            "to_longitude": "depot_longitude",
        },
    ),
    (
        "logistics",
        "nearest of our three hubs",
        {
            "kind": "distance_to_nearest",
            "latitude": "latitude",
            "longitude": "longitude",
            "latitudes": [52.3, 51.9, 50.9],
            "longitudes": [4.9, 4.5, 5.7],
        },
    ),
    (
        "logistics",
        "bearing to the depot",
        {
            "kind": "bearing",
            "latitude": "latitude",
            "longitude": "longitude",
            "to_latitude": "depot_latitude",
            "to_longitude": "depot_longitude",
        },
    ),
    ("logistics", "how late it arrived", {"kind": "elapsed_days", "start": "promised_at", "end": "arrived_at"}),
    (
        "logistics",
        "was it late",
        {"kind": "compare_columns", "left": "arrived_at", "comparison": "gt", "right": "promised_at"},
    ),
    (
        "logistics",
        "working days until the promised day",
        {"kind": "business_days_between", "start": "at", "end": "promised_at", "holidays": HOLIDAYS},
    ),
    (
        "logistics",
        "share of time idle",
        {"kind": "time_in_state", "time": "at", "where": where(("status", "eq", "idle"))},
    ),
    (
        "logistics",
        "how often loading is followed by driving",
        {"kind": "transition_share", "column": "status", "time": "at", "first": "loading", "then": "driving"},
    ),
    (
        "logistics",
        "the most frequent three statuses in a row",
        {"kind": "most_frequent_path", "column": "status", "time": "at", "length": 3},
    ),
    (
        "logistics",
        "stops in the same grid cell",
        {"kind": "grid_count", "latitude": "latitude", "longitude": "longitude", "degrees": 1},
    ),
    ("logistics", "area of the route's name", {"kind": "text_field", "column": "route", "separator": "-"}),
    ("logistics", "time-weighted mean load", {"kind": "time_weighted_mean", "column": "load", "time": "at"}),
    (
        "logistics",
        "rush hour or not",
        {"kind": "date_part_in", "column": "at", "part": "hour", "values": [7, 8, 16, 17]},
    ),
    ("logistics", "driving time by road to the depot", None),
    (
        "web",
        "sessions by thirty minutes",
        {"kind": "session_statistic", "time": "at", "gap_minutes": 30, "function": "count"},
    ),
    (
        "web",
        "events per session",
        {"kind": "session_statistic", "time": "at", "gap_minutes": 1440, "function": "mean_rows"},
    ),
    (
        "web",
        "first page of the last session",
        {"kind": "session_edge", "column": "page", "time": "at", "gap_minutes": 30},
    ),
    (
        "web",
        "usual exit page",
        {
            "kind": "session_edge",
            "column": "page",
            "time": "at",
            "gap_minutes": 30,
            "edge": "last",
            "session": "most_frequent",
        },
    ),
    ("web", "conversion rate of sessions", {"kind": "session_rate", "time": "at", "gap_minutes": 1440, "where": PAID}),
    (
        "web",
        "deepest step of the funnel",
        {"kind": "funnel_step", "column": "page", "time": "at", "steps": ["home", "item", "cart", "paid"]},
    ),
    (
        "web",
        "days from the first cart to payment",
        {"kind": "days_between_kinds", "time": "at", "first": CART, "then": PAID},
    ),
    (
        "web",
        "carts paid within two weeks",
        {"kind": "followed_share", "time": "at", "first": CART, "then": PAID, "days": 14},
    ),
    (
        "web",
        "last page before this one",
        {"kind": "previous_value", "column": "page", "entity": "visitor", "time": "at"},
    ),
    (
        "web",
        "path of the last two pages",
        {"kind": "category_path", "column": "page", "entity": "visitor", "time": "at"},
    ),
    (
        "web",
        "place in the session so far",
        {"kind": "session_so_far", "entity": "visitor", "time": "at", "gap_minutes": 1440, "figure": "place"},
    ),
    ("web", "host of the referrer", {"kind": "url_host", "column": "referrer"}),
    ("web", "TF-IDF of a term of the query", {"kind": "term_weight", "column": "query", "term": "shoes"}),
    ("web", "how alike query and campaign are", {"kind": "text_similarity", "left": "query", "right": "campaign"}),
    ("web", "distinct words of the query", {"kind": "word_statistic", "column": "query", "figure": "distinct"}),
    ("health", "body mass index", {"kind": "power_product", "columns": ["weight", "height"], "powers": [1, -2]}),
    ("health", "age at admission", {"kind": "completed_periods", "start": "born_at", "end": "admitted_at"}),
    (
        "health",
        "readmission within thirty days",
        {
            "kind": "followed_share",
            "time": "admitted_at",
            "first": where(("ward", "not_null")),
            "then": where(("ward", "not_null")),
            "days": 30,
        },
    ),
    (
        "health",
        "longest stay",
        {"kind": "aggregate_elapsed", "start": "admitted_at", "end": "discharged_at", "function": "maximum"},
    ),
    (
        "health",
        "last known diagnosis when urgent",
        {
            "kind": "last_known_value",
            "column": "diagnosis",
            "entity": "patient",
            "time": "admitted_at",
            "where": where(("urgent", "eq", True)),
        },
    ),
    (
        "health",
        "which measurements are missing",
        {"kind": "missing_pattern", "columns": ["temperature", "pulse", "glucose"]},
    ),
    (
        "health",
        "risk score of pulse and temperature",
        {"kind": "weighted_sum", "columns": ["pulse", "temperature"], "weights": [0.1, 1.5]},
    ),
    (
        "health",
        "severity as a number",
        {"kind": "ordered_category", "column": "severity", "order": ["low", "medium", "high"]},
    ),
    (
        "health",
        "symptom words in the notes",
        {"kind": "terms_count", "column": "notes", "terms": ["pain", "fever", "cough"]},
    ),
    ("health", "trend of the weight", {"kind": "trend", "column": "weight", "time": "admitted_at"}),
    ("health", "glucose variation", {"kind": "spread", "column": "glucose", "figure": "coefficient_of_variation"}),
    ("health", "rank of the temperature in the ward", {"kind": "rank", "column": "temperature", "group": "ward"}),
    (
        "energy",
        "consumption at the same time last week",
        {
            "kind": "statistic_days_before",
            "column": "kwh",
            "entity": "meter",
            "time": "at",
            "days_before": 7,
            "within_days": 40,
        },
    ),
    (
        "energy",
        "rolling mean of the last three readings of all meters",
        {"kind": "rolling_rows", "column": "kwh", "entity": None, "time": "at", "rows": 3, "function": "mean"},
    ),
    ("energy", "absolute energy of the series", {"kind": "series_statistic", **SERIES, "figure": "absolute_energy"}),
    (
        "energy",
        "longest strike above the mean",
        {"kind": "series_statistic", **SERIES, "figure": "longest_strike_above_mean"},
    ),
    ("energy", "peaks with support two", {"kind": "series_peaks", **SERIES, "support": 2}),
    ("energy", "crossings of 4 kWh", {"kind": "series_crossings", **SERIES, "level": 4}),
    ("energy", "autocorrelation at lag one", {"kind": "series_memory", **SERIES, "figure": "autocorrelation"}),
    ("energy", "time-reversal asymmetry", {"kind": "series_memory", **SERIES, "figure": "time_reversal_asymmetry"}),
    ("energy", "readings beyond two sigma", {"kind": "series_beyond_sigma", **SERIES, "deviations": 2}),
    ("energy", "binned entropy", {"kind": "binned_entropy", **SERIES}),
    ("energy", "fit of a linear trend", {"kind": "series_trend", **SERIES, "figure": "r_squared"}),
    ("energy", "dominant Fourier frequency", None),
    ("energy", "share of the variance that the hour explains", {"kind": "seasonality", **SERIES, "period": "hour"}),
    ("energy", "days since the highest reading", {"kind": "days_since_extreme", **SERIES}),
    ("energy", "hours in fault", {"kind": "time_in_state", "time": "at", "where": FAULT, "figure": "days"}),
    (
        "energy",
        "imbalance of the phases",
        {"kind": "across_columns", "columns": ["phase1", "phase2", "phase3"], "function": "range"},
    ),
    ("energy", "phase with the highest load", {"kind": "column_of_maximum", "columns": ["phase1", "phase2", "phase3"]}),
    (
        "energy",
        "minutes in the present state",
        {"kind": "state_duration", "column": "state", "entity": "meter", "time": "at", "unit": "days"},
    ),
    (
        "sport",
        "points in the last five games, slope",
        {"kind": "rolling_trend", "column": "points", "entity": "player", "time": "played_at", "rows": 5},
    ),
    (
        "sport",
        "current winning streak",
        {"kind": "streak", "entity": "player", "time": "played_at", "where": where(("won", "eq", True))},
    ),
    (
        "sport",
        "home points less away points",
        {
            "kind": "compare_conditions",
            "function": "mean",
            "column": "points",
            "numerator": where(("home", "eq", True)),
            "denominator": where(("home", "eq", False)),
            "comparison": "difference",
        },
    ),
    (
        "sport",
        "points per minute",
        {"kind": "aggregate_pair", "left": "points", "right": "minutes", "combine": "ratio", "function": "mean"},
    ),
    (
        "sport",
        "wins against bears",
        {"kind": "rate", "numerator": where(("won", "eq", True)), "denominator": where(("opponent", "eq", "bears"))},
    ),
    ("sport", "points as a share of the team's", {"kind": "share_of_group", "column": "points", "group": "team"}),
    (
        "sport",
        "win rate of the position",
        {"kind": "group_rate", "group": "position", "where": where(("won", "eq", True))},
    ),
    ("sport", "second best score", {"kind": "largest_values", "column": "points", "n": 2, "figure": "nth"}),
    (
        "sport",
        "points two months ago to one month ago",
        {
            "kind": "aggregate_between",
            "time": "played_at",
            "from_days": 120,
            "to_days": 30,
            "function": "mean",
            "column": "points",
        },
    ),
    ("sport", "skew of the points", {"kind": "shape", "column": "points", "figure": "skewness"}),
    ("sport", "game number of the season", {"kind": "cumulative_count", "entity": "player", "time": "played_at"}),
    (
        "sport",
        "different opponents so far",
        {"kind": "cumulative_distinct", "column": "opponent", "entity": "player", "time": "played_at"},
    ),
    ("sport", "geometric mean of shots", {"kind": "special_mean", "column": "shots", "mean": "geometric"}),
    ("sport", "strength of schedule by Elo rating of opponents", None),
]
