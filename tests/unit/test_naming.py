"""What names of columns say of their values."""

from __future__ import annotations

import pytest

from service.features.naming import head_of, is_day_name, is_duration_name, is_key_name, is_time_name


@pytest.mark.parametrize(
    "name",
    ["ts", "time", "Timestamp", "eventTime", "order_date", "created_at", "created", "epoch seconds", "date_ms", "at",
     "member_since", "lastSeenAt", "Datum", "fecha"],
)  # fmt: skip
def test_names_of_instants(name: str) -> None:
    """Nouns anywhere, prepositions at the end, participles alone; each may be the name of a day, too."""
    assert is_time_name(name)
    assert is_day_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "price", "bytes_sent", "amount_paid", "time_spent", "total_time", "watch_time_ms", "time_id", "date_key",
     "update", "status", "data", "day"],
)  # fmt: skip
def test_names_of_anything_else(name: str) -> None:
    """Measures, lengths of time and keys are no instants."""
    assert not is_time_name(name)


@pytest.mark.parametrize(("name", "day"), [("day", True), ("birthdate", True), ("days_count", False), ("price", False)])
def test_names_of_days(name: str, day: bool) -> None:  # noqa: FBT001 - a table's column
    """A number under such a name may be YYYYMMDD."""
    assert is_day_name(name) is day


def test_names_of_keys_and_durations() -> None:
    """The last word tells a key, any word a length of time."""
    assert [is_key_name(name) for name in ("user_id", "zip code", "id_count", "")] == [True, True, False, False]
    assert [is_duration_name(name) for name in ("lap_time", "time", "")] == [True, False, False]
    assert [head_of(name) for name in ("user_ID", "")] == ["id", ""]
