from __future__ import annotations

from base64 import urlsafe_b64encode
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.features.errors import InvalidRequest
from service.store.cursors import Position, read_cursor, write_cursor

INSTANTS = st.datetimes(timezones=st.just(UTC))
IDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=50)


@given(INSTANTS, IDS)
def test_position_comes_back(created_at: datetime, row_id: str) -> None:
    """A cursor holds the position to the microsecond and needs no escaping in a URL."""
    position = Position("datasets", created_at, row_id)
    cursor = write_cursor(position)
    assert read_cursor("datasets", cursor) == position
    assert cursor.isascii()
    assert not set(cursor) & set("+/=%&?# ")


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: urlsafe_b64encode(raw).decode()))
def test_anything_else_is_the_clients_fault(cursor: str) -> None:
    """Random text and random bytes are refused at the field `cursor`, whatever they are."""
    with pytest.raises(InvalidRequest) as refused:
        read_cursor("datasets", cursor)
    assert [fault.field for fault in refused.value.errors] == ["cursor"]


@pytest.mark.parametrize(
    "content",
    [
        '["extractions","2026-03-01T12:00:00Z","id"]',
        '["datasets","2026-03-01T12:00:00","id"]',
        '["datasets","2026-03-01T12:00:00Z","\\u0000"]',
        '["datasets","2026-03-01T12:00:00Z"]',
        '["datasets","2026-03-01T12:00:00Z","id","more"]',
        '["datasets","9999-99-99T12:00:00Z","id"]',
        "[" * 700,
        "null",
    ],
)
def test_well_formed_strangers_are_refused(content: str) -> None:
    """Another list's cursor, a time without zone, an id that no row has, and wrong shapes are refused."""
    cursor = urlsafe_b64encode(content.encode()).decode().rstrip("=")
    with pytest.raises(InvalidRequest):
        read_cursor("datasets", cursor)
