"""Define the vocabulary of requests: which words ask for which statistic and which purpose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from service.agents.words import FUNCTION_WORDS, GENERIC_WORDS, stem, stemmed

Intent = Literal[
    "rate", "count", "distinct", "sum", "mean", "minimum", "maximum", "spread", "median", "trend", "recency",
    "frequency", "monetary", "tenure", "gap", "hour", "weekday", "season", "length", "words", "contains", "characters",
    "missing", "mode", "diversity", "scale", "minmax", "bins", "rank", "log", "lag", "rolling", "change", "difference",
    "ratio", "product", "encoding", "flag", "cumulative", "group", "elapsed", "days", "relative", "latest",
    "earliest", "asis",
]  # fmt: skip
Purpose = Literal["churn", "engagement", "recommendation", "fraud", "value", "anomaly", "forecast"]

INTENT_WORDS: Mapping[Intent, str] = {
    "rate": "rate share ctr cvr percentage percent proportion fraction probability likelihood propensity click_through "
    "clickthrough",
    "count": "count number how_many tally occurrence volume",
    "distinct": "distinct unique different variety",
    "sum": "sum total overall",
    "mean": "average mean avg typical",
    "minimum": "minimum min lowest smallest least cheapest shortest",
    "maximum": "maximum max highest largest biggest peak longest",
    "spread": "variance std deviation variability spread volatility dispersion fluctuation stability consistency",
    "median": "median",
    "trend": "trend slope growth increase decrease decline momentum trajectory drift",
    "recency": "recency recent recently latest days_since time_since since_last since_the_last since_their_last lapse "
    "inactivity dormant rfm last_seen last_order last_purchase last_visit last_click last_activity last_login "
    "last_event last_active days_ago how_recently",
    "frequency": "frequency frequent frequently often cadence regularity per_day daily rfm intensity",
    "monetary": "monetary spend spent spending ltv clv rfm lifetime_value",
    "tenure": "tenure lifetime loyalty seniority since_first account_age customer_age",
    "gap": "gap interval between_purchases between_orders between_visits between_events interarrival spacing "
    "time_between days_between",
    "hour": "hour hourly night morning evening afternoon daytime time_of_day nocturnal",
    "weekday": "weekend weekday day_of_week weekly",
    "season": "season seasonal seasonality month monthly quarter calendar cyclic cyclical holiday",
    "length": "length long short characters",
    "words": "word words wordcount verbosity",
    "contains": "contain mention keyword",
    "characters": "punctuation uppercase capital digit exclamation",
    "missing": "missing missingness null blank empty completeness without have_no has_no with_no lack lacking "
    "unanswered",
    "mode": "common favourite favorite preferred preference dominant top mode popular usual most_frequent "
    "most_often most_used mostly",
    "diversity": "diversity diverse entropy variety concentration breadth",
    "scale": "scale normalize normalise standardize standardise standardized z_score zscore outlier anomaly anomalous "
    "extreme unusual",
    "minmax": "min_max minmax",
    "bins": "bin bucket quantile quartile quintile tercile decile binned discretize discretise band",
    "rank": "rank ranking percentile rank_within",
    "log": "log logarithm skew skewed heavy_tail",
    "lag": "lag lagged previous prior preceding",
    "rolling": "rolling moving sliding window trailing",
    "change": "change delta diff",
    "difference": "difference gap_between margin minus spread_between profit",
    "ratio": "ratio divided relative_to compared_to proportion",
    "product": "interaction_term product_of multiplied times_the area",
    "encoding": "encode encoding one_hot dummy dummies categorical",
    "flag": "flag indicator whether is_a binary mark marker",
    "cumulative": "cumulative running so_far to_date earlier",
    "group": "group_mean group_average group_statistic within_group",
    "elapsed": "elapsed duration length_of_stay how_long turnaround time_from days_from days_passed time_to "
    "days_to days_until",
    "latest": "last latest current newest most_recent final",
    "earliest": "first earliest initial original",
    "asis": "as_is as_they_are as_it_is itself raw unchanged untransformed",
    "days": "active_days different_days distinct_days many_days number_of_days",
    "relative": "relative_to compared_to compared_with compare versus vs deviation_from against",
}
PURPOSE_WORDS: Mapping[Purpose, str] = {
    "churn": "churn retention attrition lapse retain",
    "engagement": "engagement engage activity active behavior behaviour behavioral behavioural loyalty",
    "recommendation": "recommendation recommend recommender personalization personalisation personalize ranking",
    "fraud": "fraud fraudulent suspicious abuse risk",
    "value": "ltv clv lifetime_value segmentation segment rfm",
    "anomaly": "anomaly anomalous outlier fault maintenance failure",
    "forecast": "forecast forecasting time_series demand",
}
TEXTUAL = stemmed("sentiment tone emotion mood topic language spelling readability toxicity keyword")
"""Words for what only a text column can provide."""
SINCE = stem("since")
"""`since the last …` asks for a time span rather than a value."""
ROW_WORDS = stemmed("row record observation sample line entry reading measurement instance datapoint")
UNIT_DAYS: Mapping[str, float] = {
    "hour": 1 / 24, "day": 1, "week": 7, "fortnight": 14, "month": 30, "quarter": 90, "year": 365,
}  # fmt: skip
"""Days of each unit; a month counts 30 and a year 365."""
NUMBERS: Mapping[str, int] = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "twelve": 12, "fourteen": 14, "thirty": 30, "sixty": 60, "ninety": 90,
}  # fmt: skip
_STATISTICS: frozenset[Intent] = frozenset(
    {"sum", "mean", "minimum", "maximum", "median", "spread", "count", "distinct"}
)
STATISTIC_STEMS = frozenset(
    stem(word) for name in _STATISTICS for word in INTENT_WORDS[name].split() if "_" not in word
)


KNOWN_WORDS: frozenset[str] = (
    FUNCTION_WORDS
    | GENERIC_WORDS
    | ROW_WORDS
    | frozenset(stem(unit) for unit in (*UNIT_DAYS, "minute", "second", "time", "today", "now", "date"))
    | frozenset(NUMBERS)
    | frozenset(stem(part) for entry in " ".join(INTENT_WORDS.values()).split() for part in entry.split("_"))
    | frozenset(stem(part) for entry in " ".join(PURPOSE_WORDS.values()).split() for part in entry.split("_"))
)
"""Words of requests that do not name data."""
