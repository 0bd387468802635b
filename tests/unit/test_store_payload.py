from __future__ import annotations

import json
import re

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct
from msgspec import json as msgjson

from service.features.operations import Scalar
from service.store.payload import encode, storable, unescaped

HARD = st.text(st.sampled_from('\0\x10\\u0010"e59é😀 '))


class Box(Struct):
    """Anything that a payload holds."""

    texts: list[str]
    scalars: list[Scalar]
    by_name: dict[str, float]


@given(
    st.builds(
        Box,
        st.lists(HARD),
        st.lists(HARD | st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)),
        st.dictionaries(HARD, st.floats(allow_nan=False, allow_infinity=False)),
    )
)
def test_escaping_is_undone(box: Box) -> None:
    """What is encoded is JSON, decodes to itself, and holds no NUL and no float that JSONB would make whole."""
    text = encode(box)
    assert not re.search(r"(?<!\\)(\\\\)*\\u0000", text)
    assert all(isinstance(scalar, float) for scalar in json.loads(text)["by_name"].values())
    outside_strings = re.sub(r'"(?:[^"\\]|\\.)*"', "", text)
    assert not re.search(r"e\d", outside_strings)
    assert msgjson.decode(unescaped(text), type=Box) == box


def test_plain_json_is_left_alone() -> None:
    """What needs no escaping is stored as msgspec writes it."""
    assert encode({"a": [1, 0.5, "b"]}) == '{"a":[1,0.5,"b"]}'


def test_storable_texts() -> None:
    """NUL and lone surrogates are what PostgreSQL cannot hold; None is no text."""
    assert storable("", "é😀", None)
    assert not storable("a", "b\0")
    assert not storable("\ud800")
