from __future__ import annotations

import re
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, RetryInfo, ToolReturnPart, UserPromptPart
from pydantic_ai.models import ModelRequestParameters

from service.agents.builtin.lexicon import INTENT_WORDS, PURPOSE_WORDS, Intent, Purpose
from service.agents.builtin.model import BuiltinPlanner
from service.agents.builtin.plan import make_plan
from service.agents.builtin.reading import read
from service.agents.output import Impossible, decode_plan
from service.agents.prompts import build_request, parse, render
from service.agents.words import Phrase, ascii_words, mention, stem, stems, tokens
from service.features.model import (
    ColumnProfile,
    ExtractionOptions,
    FeaturePlan,
    LogicalType,
    PlannedFeature,
    Profile,
    ValueCount,
)
from service.features.operations import (
    ActiveDays,
    ActiveSpan,
    Aggregate,
    ChangeFromPrevious,
    CharacterShare,
    Count,
    CountDistinct,
    CumulativeCount,
    DaysSincePrevious,
    Difference,
    ElapsedDays,
    Entropy,
    FirstValue,
    Flag,
    FrequencyEncoding,
    GroupCount,
    GroupStatistic,
    HourShare,
    IsMissing,
    Logarithm,
    MeanGap,
    MostFrequent,
    PercentRank,
    Predicate,
    PreviousValue,
    Product,
    Quantile,
    QuantileBin,
    Rate,
    Ratio,
    RatioOfSums,
    Recency,
    RollingStatistic,
    TextContains,
    TextLength,
    Trend,
    Value,
    WeekendShare,
    ZScore,
)
from service.features.plan import validate

PHYSICAL: dict[str, str] = {
    "numeric": "DOUBLE", "integer": "BIGINT", "boolean": "BOOLEAN", "categorical": "VARCHAR", "datetime": "TIMESTAMP",
    "text": "VARCHAR", "identifier": "VARCHAR",
}  # fmt: skip


def column(name: str, type_: LogicalType, distinct: int, *values: str, **more: Any) -> ColumnProfile:
    """A column; values are its most frequent ones, each held by fewer rows than the one before."""
    shares: dict[str, int] = more.pop("values_of", {})
    fields: dict[str, Any] = {"null_ratio": 0.0, "physical_type": PHYSICAL[type_], **more}
    if type_ == "datetime":
        fields = {"minimum": "2026-01-01T00:00:12", "maximum": "2026-03-31T23:59:40", **fields}
    top = tuple(ValueCount(value, 1000 // (rank + 1)) for rank, value in enumerate(values))
    top = top or tuple(ValueCount(value, count) for value, count in shares.items())
    return ColumnProfile(name=name, position=0, logical_type=type_, distinct_count=distinct, top_values=top, **fields)


def number(name: str, low: float, mean: float, median: float, high: float, **more: Any) -> ColumnProfile:
    """A numeric column."""
    statistics: dict[str, Any] = {
        "minimum": low, "maximum": high, "mean": mean, "standard_deviation": (high - low) / 6,
        "quantiles": {"p05": low, "p25": low, "p50": median, "p75": high, "p95": high},
    }  # fmt: skip
    type_: LogicalType = more.pop("type_", "numeric")
    return column(name, type_, more.pop("distinct", 300), **{**statistics, **more})


def table(rows: int, *columns: ColumnProfile) -> Profile:
    """A profile of the columns in their order."""
    return Profile(rows, tuple(replace(each, position=place) for place, each in enumerate(columns)), "0" * 64)


EVENTS = table(
    50_000,
    column("event_time", "datetime", 49_000),
    column("user_id", "identifier", 1_200),
    column("session_id", "identifier", 6_000),
    column("item_id", "identifier", 400),
    column("category", "categorical", 8, "shoes", "books", "garden"),
    column("event_type", "categorical", 4, "impression", "click", "add_to_cart", "purchase"),
    number("price", 1.5, 40.0, 30.0, 300.0, null_ratio=0.97),
    column("device", "categorical", 3, "mobile", "desktop", "tablet"),
    column("country", "categorical", 6, "DE", "FR"),
    number("position", 1, 8.0, 7.0, 20, type_="integer", distinct=20),
    number("dwell_seconds", 0.0, 35.0, 15.0, 900.0, null_ratio=0.8),
)
PENGUINS = table(
    344,
    column("species", "categorical", 3, "Adelie", "Gentoo", "Chinstrap"),
    column("island", "categorical", 3, "Biscoe", "Dream", "Torgersen"),
    number("bill_length_mm", 32.1, 43.9, 44.4, 59.6, null_ratio=0.006),
    number("bill_depth_mm", 13.1, 17.1, 17.3, 21.5, null_ratio=0.006),
    number("flipper_length_mm", 172, 200.9, 197.0, 231, type_="integer", distinct=55),
    number("body_mass_g", 2700, 4201.0, 4050.0, 6300, type_="integer", distinct=94),
    column("sex", "categorical", 2, "male", "female", null_ratio=0.03),
    number("year", 2007, 2008.0, 2008.0, 2009, type_="integer", distinct=3),
)
ORDERS = table(
    9_000,
    column("order_id", "identifier", 9_000),
    column("customer_id", "identifier", 1_500),
    column("order_date", "datetime", 700, minimum="2024-01-01T00:00:00", maximum="2025-12-31T00:00:00"),
    column("product_category", "categorical", 10, "toys", "food"),
    number("quantity", 1, 3.0, 2.0, 20, type_="integer", distinct=20),
    number("unit_price", 1.0, 45.0, 25.0, 500.0),
    column("returned", "boolean", 2, "false", "true"),
    column("customer_email", "text", 1_500, personal=True),
)
SENSORS = table(
    100_000,
    column("ts", "datetime", 90_000),
    column("sensor_id", "identifier", 12),
    number("temperature_c", -5.0, 40.0, 39.0, 90.0),
    number("vibration", 0.0, 1.2, 0.8, 12.0),
)
REVIEWS = table(
    5_000,
    column("review_id", "identifier", 5_000),
    column("product_id", "identifier", 200),
    column("review_text", "text", 4_990, mean_length=220.0),
    number("rating", 1, 4.0, 4.0, 5, type_="integer", distinct=5),
    column("created_at", "datetime", 4_000),
)
LOANS = table(
    20_000,
    column("loan_id", "identifier", 20_000),
    number("annual_income", 5000.0, 75000.0, 50000.0, 900000.0),
    number("loan_amount", 500.0, 14000.0, 12000.0, 40000.0),
    column("purpose", "categorical", 12, "debt", "credit_card"),
    column("grade", "categorical", 7, "1", "2", physical_type="BIGINT"),
    number("employment_years", 0, 6.0, 5.0, 40, type_="integer", distinct=41, null_ratio=0.06),
    column("default", "boolean", 2, "false", "true"),
    column("issue_date", "datetime", 100),
)
ADS = table(
    3_000,
    column("campaign_id", "identifier", 40),
    column("day", "datetime", 90),
    number("impressions", 0, 900.0, 800.0, 5000, type_="integer"),
    number("clicks", 0, 30.0, 20.0, 400, type_="integer"),
)
ACCOUNTS = table(
    800,
    column("account", "identifier", 800),
    column("signup_at", "datetime", 700, minimum="2020-01-01T08:00:00"),
    column("last_seen_at", "datetime", 700, minimum="2023-01-01T08:00:00"),
    column("plan", "categorical", 3, "free", "team"),
)
DATASETS = {
    "events": EVENTS, "penguins": PENGUINS, "orders": ORDERS, "sensors": SENSORS, "reviews": REVIEWS, "loans": LOANS,
    "ads": ADS, "accounts": ACCOUNTS,
}  # fmt: skip
CLICK = (Predicate("event_type", "eq", ("click",)),)
IMPRESSION = (Predicate("event_type", "eq", ("impression",)),)
PURCHASE = (Predicate("event_type", "eq", ("purchase",)),)


def answer(profile: Profile, sentence: str, **options: Any) -> FeaturePlan | Impossible:
    """Answer a prompt; every plan is checked for validity."""
    chosen = ExtractionOptions(**options)
    made = make_plan(parse(render(build_request(sentence, profile, chosen))))
    if isinstance(made, FeaturePlan):
        assert validate(made, profile, chosen) == ()
    return made


def plan(profile: Profile, sentence: str, **options: Any) -> FeaturePlan:
    """Plan, and fail if the request is refused."""
    made = answer(profile, sentence, **options)
    assert isinstance(made, FeaturePlan), made
    return made


def operations(made: FeaturePlan) -> list[object]:
    """The plan's operations in order."""
    return [feature.operation for feature in made.features]


def feature(made: FeaturePlan, name: str) -> PlannedFeature:
    """The feature of that name."""
    return next(each for each in made.features if each.name == name)


def test_the_demo_sentence() -> None:
    """Click-through and conversion on an event log give clicks, impressions, both rates and recency for each user."""
    made = plan(EVENTS, "Extract click-through and conversion features for recommendation engine")
    assert (made.grain, made.entity, made.time) == ("entity", "user_id", "event_time")
    assert operations(made)[:2] == [Rate(CLICK, IMPRESSION), Rate(PURCHASE, CLICK)]
    wanted = {Count(CLICK), Count(IMPRESSION), Count(PURCHASE), Recency("event_time", CLICK), Recency("event_time")}
    assert wanted <= set(operations(made))
    assert len(made.features) == 20
    steps = " ".join(made.steps)
    for words in (
        "for each user_id",
        "event_time",
        "event_type is 'click'",
        "Conversion rate is purchases over clicks",
    ):
        assert words in steps
    assert feature(made, "click_count").description == "Clicks of each user_id: rows where event_type is 'click'."


def test_few_features_are_the_requested_ones() -> None:
    """A small `max_features` keeps what the sentence names first."""
    made = plan(EVENTS, "Extract click-through and conversion features for recommendation engine", max_features=3)
    assert [each.name for each in made.features] == ["click_through_rate", "conversion_rate", "click_count"]


@pytest.mark.parametrize(
    ("dataset", "sentence", "first"),
    [
        ("events", "number of purchases in the last 30 days per user", Count(PURCHASE, 30.0)),
        ("events", "clicks over the past two weeks for each user", Count(CLICK, 14.0)),
        ("events", "how many distinct items per user", CountDistinct("item_id")),
        ("events", "favourite category of each user", MostFrequent("category")),
        ("events", "weekend share by user", WeekendShare("event_time")),
        ("events", "share of mobile usage per user", Rate((Predicate("device", "eq", ("mobile",)),))),
        ("events", "average dwell time per session", Aggregate("dwell_seconds", "mean")),
        ("orders", "total spend per customer", Aggregate("unit_price", "sum")),
        ("orders", "time between orders per customer", MeanGap("order_date")),
        ("orders", "days since the last order of each customer", Recency("order_date")),
        ("orders", "total spend by product category", GroupStatistic("unit_price", "product_category", "sum")),
        ("sensors", "average temperature per sensor", Aggregate("temperature_c", "mean")),
        ("sensors", "maximum vibration for each machine", Aggregate("vibration", "maximum")),
        (
            "sensors", "rolling mean of temperature over the last 6 hours",
            RollingStatistic("temperature_c", "sensor_id", "ts", 0.25, "mean"),
        ),
        ("sensors", "change in vibration", ChangeFromPrevious("vibration", "sensor_id", "ts")),
        ("sensors", "lagged temperature", PreviousValue("temperature_c", "sensor_id", "ts")),
        ("reviews", "text length", TextLength("review_text")),
        ("reviews", 'whether the review mentions "refund"', TextContains("review_text", "refund")),
        ("loans", "log of income", Logarithm("annual_income")),
        ("loans", "loan to income ratio", Ratio("loan_amount", "annual_income")),
        ("loans", "missing indicator of employment years", IsMissing("employment_years")),
        ("penguins", "average body mass by island", GroupStatistic("body_mass_g", "island", "mean")),
        ("penguins", "one-hot encode island", Flag((Predicate("island", "eq", ("Biscoe",)),))),
        ("penguins", "ratio of bill length to bill depth", Ratio("bill_length_mm", "bill_depth_mm")),
        ("penguins", "z-score of flipper length", ZScore("flipper_length_mm")),
        ("ads", "click-through rate per campaign", RatioOfSums("clicks", "impressions")),
        ("accounts", "days between signup and last seen", ElapsedDays("signup_at", "last_seen_at")),
        ("accounts", "number of rows with the same plan", GroupCount("plan")),
        ("accounts", "frequency encoding of plan", FrequencyEncoding("plan")),
        ("orders", "spread of unit price per customer", Aggregate("unit_price", "standard_deviation")),
        ("orders", "trend of unit price per customer", Trend("unit_price", "order_date")),
        ("reviews", "uppercase share of the review text", CharacterShare("review_text", "uppercase")),
        ("events", "diversity of categories per user", Entropy("category")),
        ("events", "evening activity of each user", HourShare("event_time", 18, 22)),
        ("events", "spend on purchases per user", Aggregate("price", "sum", PURCHASE)),
        ("sensors", "number of readings so far", CumulativeCount("sensor_id", "ts")),
        ("penguins", "difference between bill length and bill depth", Difference("bill_length_mm", "bill_depth_mm")),
        ("penguins", "rank of body mass within each species", PercentRank("body_mass_g", "species")),
        ("penguins", "quartile of body mass", QuantileBin("body_mass_g", 4)),
    ],
)  # fmt: skip
def test_the_requested_feature_comes_first(dataset: str, sentence: str, first: object) -> None:
    """A sentence that asks for one thing gets it as the first feature."""
    assert operations(plan(DATASETS[dataset], sentence))[0] == first


@pytest.mark.parametrize(
    ("dataset", "sentence", "first"),
    [
        ("orders", "share of returned orders with a quantity of at least 3, per customer",
         Rate((Predicate("quantity", "ge", (3,)), Predicate("returned", "eq", (True,))))),
        ("events", "share of events not on mobile per user", Rate((Predicate("device", "ne", ("mobile",)),))),
        ("events", "number of events with a price over 1,000 per user", Count((Predicate("price", "gt", (1000,)),))),
        ("events", "clicks of the last 7, 14 and 28 days per user", Count(CLICK, 14.0)),
        ("reviews", "percentage of 5-star reviews by product", Rate((Predicate("rating", "eq", (5,)),))),
        ("orders", "quantity times unit price", Product("quantity", "unit_price")),
        ("loans", "loan amount as a multiple of income", Ratio("loan_amount", "annual_income")),
        ("sensors", "99th percentile of vibration per sensor", Quantile("vibration", 0.99)),
        ("sensors", "vibration 3 readings ago", PreviousValue("vibration", "sensor_id", "ts", 3)),
        ("sensors", "time since the previous reading of the sensor", DaysSincePrevious("sensor_id", "ts")),
        ("events", "the first category of each user", FirstValue("category", "event_time")),
        ("penguins", "body mass in 5 bins", QuantileBin("body_mass_g", 5)),
        ("penguins", "bill length as is", Value("bill_length_mm")),
        ("sensors", "avrage tempereature per sensor", Aggregate("temperature_c", "mean")),
    ],
)  # fmt: skip
def test_it_understands(dataset: str, sentence: str, first: object) -> None:
    """Conditions, arithmetic, quantiles, lags and typing errors are understood."""
    assert first in operations(plan(DATASETS[dataset], sentence))[:4]


def test_flags_stored_as_numbers() -> None:
    """A yes/no column of 0 and 1 is compared with 1: with a truth value the plan would not be valid."""
    flag = column("declined", "boolean", 2, "0", "1", physical_type="BIGINT", minimum=0, maximum=1)
    profile = table(900, column("shop_id", "identifier", 40), flag)
    assert Rate((Predicate("declined", "eq", (1,)),)) in operations(plan(profile, "share of declined rows per shop"))


@pytest.mark.parametrize(
    "sentence",
    [
        "customer features without unit price", "customer features, do not use the unit price.",
        "Leave out unit price. Customer features", "customer features, excluding unit price and quantity",
    ],
)  # fmt: skip
def test_what_is_not_wanted_is_not_read(sentence: str) -> None:
    """A column that the sentence excludes is in no feature, and the steps say so."""
    made = plan(ORDERS, sentence)
    assert not any("unit_price" in repr(operation) for operation in operations(made))
    assert any(step.startswith("Not read, as the request says: ") and "unit_price" in step for step in made.steps)


def test_what_gives_the_target_away_is_not_read() -> None:
    """A column that is filled only after the outcome, or exactly where it came true, is in no feature."""
    profile = table(
        1_000,
        number("spend", 1.0, 9.0, 5.0, 99.0),
        column("churned", "boolean", 2, values_of={"false": 800, "true": 200}),
        column("closing_note", "categorical", 3, "a", "b", null_ratio=0.8),
        column("cancellation_day", "integer", 30, null_ratio=0.5),
    )
    made = plan(profile, "useful features", target="churned")
    assert not any(name in repr(operations(made)) for name in ("churned", "closing_note", "cancellation_day"))
    assert "Not read, for they give the target away: closing_note, cancellation_day." in made.steps


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    "text",
    ["/ " * 2_000, "over 5 " * 570, "without a, " * 360, "price / price " * 280, "7 and " * 660, "lags 1," * 570],
)
def test_no_sentence_is_too_long(text: str) -> None:
    """A very long sentence of signs and numbers is answered: the number of comparisons is bounded."""
    assert isinstance(answer(EVENTS, text), FeaturePlan | Impossible)
    assert len(read(text).limits) <= 12
    assert len(read(text).numbers) <= 12


@pytest.mark.parametrize(
    ("dataset", "sentence", "named"),
    [
        ("events", "average blood pressure per hospital", "blood pressure"),
        ("penguins", "eye colour and weather of the colony", "eye"),
        ("events", "sentiment of reviews", "sentiment"),
        ("orders", "median humidity of each airport", "humidity"),
        ("penguins", "blood pressure and cholesterol features for each hospital", "hospital"),
    ],
)
def test_impossible(dataset: str, sentence: str, named: str) -> None:
    """A sentence about what no column can serve is refused, and the refusal names it."""
    made = answer(DATASETS[dataset], sentence)
    assert isinstance(made, Impossible)
    assert named in made.reason


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize(
    "sentence",
    [
        "anything useful",
        "features for a model",
        "extrahiere nützliche Merkmale",
        "特徴量を作成",
        "give me the best predictors",
        "???????",
    ],
)
def test_vague_sentences_get_a_plan(dataset: str, sentence: str) -> None:
    """A sentence without a word about the data gets a balanced plan."""
    made = plan(DATASETS[dataset], sentence)
    assert len(made.features) >= 5
    assert len({type(operation) for operation in operations(made)}) >= 4


def test_balanced_set_for_a_target() -> None:
    """The predicted column is not read, and every other column is used."""
    made = plan(PENGUINS, "useful features for predicting species")
    read_columns = {
        name
        for name in ("island", "bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g", "sex", "species")
        if any(repr(name) in repr(operation) for operation in operations(made))
    }
    assert read_columns == {"island", "bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g", "sex"}


def test_target_option_is_left_alone() -> None:
    """The column of `options.target` is in no feature, and the steps say so."""
    made = plan(LOANS, "features to tell good loans from bad ones", target="default")
    assert not any("'default'" in repr(operation) for operation in operations(made))
    assert "default is the target: no feature reads it." in made.steps


def test_options_fix_entity_and_time() -> None:
    """The client's entity and time take precedence over the sentence."""
    made = plan(EVENTS, "click features per user", entity="session_id", time="event_time")
    assert (made.grain, made.entity, made.time) == ("entity", "session_id", "event_time")


def test_options_fix_entity_of_rows() -> None:
    """A fixed entity stays on a plan of rows, too."""
    made = plan(SENSORS, "features of each reading", entity="sensor_id", time="ts")
    assert (made.grain, made.entity, made.time) == ("row", "sensor_id", "ts")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"entity": "price"}, "cannot be the entity"),
        ({"time": "user_id"}, "cannot be the time column"),
        ({"entity": "user_id", "target": "user_id"}, "cannot be the target"),
        ({"entity": "nobody"}, "no column of the dataset"),
    ],
)
def test_options_that_no_plan_can_keep(options: dict[str, str], words: str) -> None:
    """An entity that is a measure, or a time that is no time, makes the request impossible, in plain words."""
    made = answer(EVENTS, "click features", **options)
    assert isinstance(made, Impossible)
    assert words in made.reason


def test_constant_empty_and_personal_columns_are_left_out() -> None:
    """Columns without information and personal columns are in no feature."""
    profile = table(
        500,
        number("height", 1.0, 1.7, 1.7, 2.0),
        column("unit", "categorical", 1, "cm"),
        column("empty", "text", 0, null_ratio=1.0),
        column("full_name", "text", 490, personal=True),
    )
    made = plan(profile, "features from height, unit, empty and full name")
    assert all("height" in repr(operation) for operation in operations(made))


def test_nothing_to_plan_on() -> None:
    """A table of constants is refused."""
    made = answer(table(10, column("a", "categorical", 1, "x"), column("b", "integer", 1)), "useful features")
    assert isinstance(made, Impossible)
    assert "more than one value" in made.reason


def test_sessions_have_a_length_and_no_age() -> None:
    """Features of sessions describe their length, not the days on which they were active."""
    made = operations(plan(EVENTS, "engagement features per session"))
    assert ActiveSpan("event_time") in made
    assert ActiveDays("event_time") not in made


def test_flag_columns_are_events() -> None:
    """Without an event column, yes/no columns are events, compared with all rows."""
    profile = table(
        5_000,
        column("visitor", "identifier", 300),
        column("shown_at", "datetime", 4_000),
        column("clicked", "boolean", 2, "false", "true"),
        column("converted", "categorical", 2, "no", "yes"),
    )
    made = plan(profile, "click-through rate and conversion rate per visitor")
    clicked, converted = Predicate("clicked", "eq", (True,)), Predicate("converted", "eq", ("yes",))
    assert {Rate((clicked,)), Rate((converted,), (clicked,))} <= set(operations(made))


def test_row_counters_make_ratios() -> None:
    """Columns that already count events give a ratio of sums for each campaign."""
    made = plan(ADS, "features per campaign")
    assert RatioOfSums("clicks", "impressions") in operations(made)


def test_categories_stored_as_numbers() -> None:
    """Values of a category that is stored as whole numbers become numbers in predicates."""
    made = plan(LOANS, "one-hot encode grade")
    assert operations(made)[0] == Flag((Predicate("grade", "eq", (1,)),))


def test_names_from_other_alphabets() -> None:
    """Columns of any script get ASCII names that are unique."""
    profile = table(
        900, number("价格", 1.0, 9.0, 5.0, 99.0), number("数量", 1.0, 3.0, 2.0, 20.0), number("Größe", 1, 2, 2, 3)
    )
    made = plan(profile, "useful features")
    names = [each.name for each in made.features]
    assert len(set(names)) == len(names)
    assert any("column_1" in name for name in names)
    assert any("column_2" in name for name in names)
    assert any("grosse" in name or "groe" in name for name in names)


def test_names_that_would_collide() -> None:
    """Columns whose names differ only in what a feature's name leaves out get features of different names."""
    profile = table(900, column("is new", "categorical", 3, "a", "b"), column("is_new", "categorical", 3, "a", "b"))
    names = [each.name for each in plan(profile, "useful features").features]
    assert len(set(names)) == len(names)
    assert any(name.endswith("_2") for name in names)


def test_long_values_and_names_stay_within_the_contract() -> None:
    """Very long column names still make valid names and descriptions."""
    profile = table(100, number("x" * 250, 1.0, 9.0, 5.0, 99.0), number("y" * 250, 1.0, 9.0, 5.0, 99.0))
    made = plan(profile, "useful features")
    assert max(len(each.name) for each in made.features) <= 120
    assert max(len(each.description) for each in made.features) <= 500


def test_sorting_is_rationed_on_huge_tables() -> None:
    """On a table of hundreds of millions of rows a plan sorts no more than allowed."""
    huge = replace(EVENTS, row_count=400_000_000)
    made = plan(huge, "distinct items, sessions, categories, favourite device and active days per user")
    assert len(made.features) >= 1


def test_steps_name_what_is_left_out() -> None:
    """A sentence that can only be served in part gets that part, and the steps say what is left out."""
    made = plan(ORDERS, "average unit price and average humidity per customer")
    assert operations(made)[0] == Aggregate("unit_price", "mean")
    assert any("Left out" in step and "humidity" in step for step in made.steps)


def test_the_same_request_gives_the_same_plan() -> None:
    """Planning is deterministic."""
    assert plan(EVENTS, "churn features") == plan(EVENTS, "churn features")


def message(content: str) -> list[ModelMessage]:
    """A conversation that has only begun."""
    return [ModelRequest(parts=[UserPromptPart(content)])]


async def respond(messages: list[ModelMessage]) -> ModelResponse:
    """Ask the model."""
    return await BuiltinPlanner().request(messages, None, ModelRequestParameters())


def rejection(response: ModelResponse, content: str) -> list[ModelMessage]:
    """The messages that send an answer back."""
    call = response.tool_calls[0]
    retry = RetryInfo(cause="model_retry", attempt=1, max_retries=3)
    part = ToolReturnPart(call.tool_name, content, tool_call_id=call.tool_call_id, outcome="retried", retry=retry)
    return [response, ModelRequest(parts=[part])]


async def test_rejected_features_are_dropped() -> None:
    """After a rejection the plan is sent again without the features that the faults name."""
    prompt = message(render(build_request("click features", EVENTS, ExtractionOptions())))
    first = await respond(prompt)
    before, _ = decode_plan(first.tool_calls[0].args_as_dict())
    second = await respond([*prompt, *rejection(first, "- features[1].operation.column: no\n- features[3].name: no")])
    after, _ = decode_plan(second.tool_calls[0].args_as_dict())
    assert before is not None
    assert after is not None
    assert after.features == tuple(each for index, each in enumerate(before.features) if index not in {1, 3})


async def test_a_rejection_that_names_no_feature_ends_it() -> None:
    """If the fault is not in a feature, the model reports that it has no plan."""
    prompt = message(render(build_request("click features", EVENTS, ExtractionOptions())))
    first = await respond(prompt)
    second = await respond([*prompt, *rejection(first, "- entity: the client fixed the entity")])
    assert second.tool_calls[0].tool_name == "report_impossible"


async def test_the_model_sees_only_messages() -> None:
    """Without a data block there is nothing to plan on."""
    with pytest.raises(ValueError, match="no data block"):
        await respond(message("Plan something."))


async def test_model_identity() -> None:
    """Its names are those that spans, metrics and settings use, and its tokens are estimated."""
    model = BuiltinPlanner()
    assert (model.system, model.model_name, model.model_id, model.provider) == (
        "builtin", "builtin:planner", "builtin:planner", None,
    )  # fmt: skip
    response = await respond(message(render(build_request("click features", EVENTS, ExtractionOptions()))))
    assert response.usage.input_tokens > 300
    assert response.usage.output_tokens > 100


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("user_id", ("user", "id")), ("eventType", ("event", "type")), ("HTTPStatus", ("http", "status")),
        ("click-through rate", ("click", "through", "rate")), ("amount30d", ("amount", "30", "d")),
        ("Größe (cm)", ("grösse", "cm")), ("价格", ("价格",)), ("  ", ()), ("\uff21\uff22\uff23", ("abc",)),
    ],
)  # fmt: skip
def test_tokens(text: str, expected: tuple[str, ...]) -> None:
    """Names and sentences are split alike, whatever their spelling."""
    assert tokens(text) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("clicks", "clicked"), ("purchases", "purchasing"), ("categories", "category"), ("shopping", "shop"),
        ("boxes", "box"), ("classes", "class"), ("rates", "rate"), ("visited", "visits"), ("status", "status"),
    ],
)  # fmt: skip
def test_stems_meet(one: str, other: str) -> None:
    """Forms of one word have one stem."""
    assert stem(one) == stem(other)


def test_stems_stay_apart() -> None:
    """Rating is not rate, and words that only look like plurals keep their end."""
    assert stem("rating") != stem("rate")
    assert stem("address") == "address"


@pytest.mark.parametrize(
    ("name", "sentence", "strength"),
    [
        ("unit_price", "the unit price of things", 4), ("temperature_c", "mean temperature", 3),
        ("temp_c", "mean temperature", 3), ("bill_length_mm", "length of flippers", 2), ("user_id", "per customer", 1),
        ("user_id", "bill length", 0), ("машина", "машина", 4),
    ],
)  # fmt: skip
def test_mention(name: str, sentence: str, strength: int) -> None:
    """A column is mentioned by its name, a part of it, or a word of the same meaning."""
    assert mention(stems(name), Phrase(stems(sentence))) == strength


def test_ascii_words() -> None:
    """Convertible letters become ASCII; others are dropped."""
    assert ascii_words("Größe in Café") == "grosse_in_cafe"
    assert ascii_words("价格") == ""


@pytest.mark.parametrize(
    ("sentence", "days"),
    [
        ("last 7 days", [7.0]), ("past month", [30.0]), ("previous two weeks", [14.0]), ("the last 24 hours", [1.0]),
        ("7d and 30d", [7.0, 30.0]), ("a 90-day window", [90.0]), ("recent quarter", [90.0]), ("no window", []),
        ("last 9999 years", []), ("in the last hour", [0.0417]),
    ],
)  # fmt: skip
def test_windows(sentence: str, days: list[float]) -> None:
    """Spans of time are read in days."""
    assert [window.days for window in read(sentence).windows] == days


def test_reading() -> None:
    """Groups, statistics, purposes, quoted terms and what is to be predicted are read from one sentence."""
    reading = read("Average basket value per customer by country to predict churn; does the note contain 'late'?")
    assert reading.per == (("customer",),)
    assert ("country",) in reading.by
    assert ("basket", "valu") in reading.asks
    assert reading.predicted == ("churn",)
    assert reading.terms == ("late",)
    assert {"mean", "contains"} <= reading.intents
    assert "churn" in reading.purposes
    assert not reading.rows
    assert read("one feature set per row").rows


def test_lexicon_is_whole() -> None:
    """Every intent and purpose has its words."""
    assert set(get_args(Intent)) == set(INTENT_WORDS)
    assert set(get_args(Purpose)) == set(PURPOSE_WORDS)


NAMES = st.one_of(
    st.sampled_from([
        "user_id", "customerId", "id", "event_type", "action", "clicked", "is_purchase", "price", "amount", "quantity",
        "event_time", "created_at", "birth_date", "comment", "review text", "category", "country", "score", "clicks",
        "impressions", "row_count", "click_count", "days since", "rolling", "价格", "x", "", "1st", "SELECT", "year",
        "device", "session", "sensor", "order_id", "order date", "temp", "a" * 300, "B" * 256,
    ]),
    st.text(max_size=12),
)  # fmt: skip
WORDS = (
    "average", "total", "number of", "per user", "by category", "for each row", "clicks", "purchases", "cvr rate",
    "last 7 days", "rolling", "previous", "change", "ratio of", "price", "score", "text length", "contains 'x'",
    "missing",
    "churn", "features", "predict", "recency", "frequency", "monetary", "one-hot", "z-score", "rank", "weekend", "hour",
    "most common", "distinct", "trend", "log", "quartile", "cyclical month", "max", "min", "std", "median", "per day",
    "and",
    "session", "country", "difference between", "amount", "per sensor", "engagement", "anomaly", "sentiment", "价格",
    "hospital", "conversion rate", "spend", "uppercase", "price over 5", "at least 1,000 clicks", "without price",
    "1-star", "price / score", "not mobile", "the last price", "two rows ago", "in 5 bins", "p95", "other than click",
    "avrage", "as is", "earlier", "the most", "first category", "relative to", "duration", "predict score", "404",
)  # fmt: skip


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    """Tables of any shape: few or many rows, odd names, every type, constants, nulls, personal columns."""
    rows = draw(st.sampled_from([0, 1, 7, 300, 20_000, 600_000_000]))
    names = draw(st.lists(NAMES, min_size=1, max_size=9, unique=True))
    return table(rows, *(draw(columns(name, rows)) for name in names))


@st.composite
def columns(draw: st.DrawFn, name: str, rows: int) -> ColumnProfile:
    """One column whose statistics fit its type and the number of rows."""
    type_: LogicalType = draw(st.sampled_from(get_args(LogicalType)))
    distinct = draw(st.integers(0, min(rows, 2 if type_ == "boolean" else 5_000)))
    physical = draw(st.sampled_from(["VARCHAR", "BIGINT", "DOUBLE"])) if type_ == "categorical" else PHYSICAL[type_]
    values = ["true", "false"] if type_ == "boolean" else draw(VALUES if physical == "VARCHAR" else NUMBERS)
    ends: dict[str, Any] = {}
    if type_ in {"numeric", "integer"}:
        low, high = sorted(draw(st.tuples(st.integers(-5, 9), st.integers(-5, 9))))
        ends = {
            "minimum": low, "maximum": high, "mean": draw(st.floats(allow_nan=False, allow_infinity=False, width=32)),
            "quantiles": {"p50": float(draw(st.integers(low, high)))},
        }  # fmt: skip
    return column(
        name, type_, distinct, *values[:distinct], physical_type=physical,
        personal=draw(st.integers(0, 9)) == 0, null_ratio=draw(st.sampled_from([0.0, 0.01, 0.5, 1.0])), **ends,
    )  # fmt: skip


VALUES = st.lists(
    st.one_of(
        st.sampled_from(["click", "view", "purchase", "yes", "no", "add_to_cart", "mobile", "2024", "Ü", "a\0b"]),
        st.text(max_size=5),
    ),
    unique=True, max_size=6,
)  # fmt: skip
NUMBERS = st.lists(st.sampled_from(["1", "2", "3.5", "nan", "x"]), unique=True, max_size=4)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), profile=profiles(), sentence=st.lists(st.sampled_from(WORDS), min_size=1, max_size=7))
def test_every_plan_is_valid(data: st.DataObject, profile: Profile, sentence: list[str]) -> None:
    """For any table, sentence and options: a valid plan, or a reason why there is none."""
    names = st.sampled_from([None, *(each.name for each in profile.columns if 0 < len(each.name) <= 256)])
    options = ExtractionOptions(
        max_features=data.draw(st.sampled_from([1, 5, 20, 200])),
        entity=data.draw(names), time=data.draw(names), target=data.draw(names),
    )  # fmt: skip
    made = make_plan(parse(render(build_request(" ".join(sentence), profile, options))))
    if isinstance(made, FeaturePlan):
        assert validate(made, profile, options) == ()
        assert all(re.fullmatch(r"[a-z][a-z0-9_]{0,119}", each.name) for each in made.features)
        assert all(3 <= len(each.description) <= 500 for each in made.features)
        assert len(made.steps) <= 20
        assert all(len(step) <= 500 for step in made.steps)
    else:
        assert 3 <= len(made.reason) <= 500
