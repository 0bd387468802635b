"""How many requests of a kind a principal may have open at once."""

from __future__ import annotations

import asyncio

import pytest

from service.features.errors import TooManyAtOnce
from service.features.identity import ShareKind
from service.security.shares import Shares


def test_one_more_than_the_limit_is_refused() -> None:
    """The refusal names limit and kind and when to try again; other kinds and principals are not touched."""
    shares = Shares({"upload": 2, "stream": 1})
    with shares.hold("ada", "upload"), shares.hold("ada", "upload"):
        with pytest.raises(TooManyAtOnce, match="2 uploads") as refusal, shares.hold("ada", "upload"):
            pytest.fail("the block of a refused request ran")
        with shares.hold("ada", "stream"), shares.hold("bob", "upload"):
            assert shares.is_full("ada", "stream")
            assert not shares.is_full("bob", "upload")
    assert refusal.value.kind == "upload"
    assert refusal.value.retry_after is not None
    assert not shares.is_full("ada", "upload")


@pytest.mark.parametrize("end", [RuntimeError, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
def test_a_place_comes_back_however_the_block_ends(end: type[BaseException]) -> None:
    """With an exception of any kind the place is free, and nothing is kept of the principal."""
    shares = Shares({"download": 1})
    for _ in range(3):
        with pytest.raises(end), shares.hold("ada", "download"):
            raise end
    assert not shares._open


@pytest.mark.parametrize("limits", [{}, {"wait": 0}])
def test_no_limit_is_no_bound(limits: dict[ShareKind, int]) -> None:
    """0, like a kind that is not named, lets any number pass."""
    shares = Shares(limits)
    held = [shares.hold("ada", "wait") for _ in range(100)]
    for place in held:
        place.__enter__()
    assert not shares.is_full("ada", "wait")
    for place in held:
        place.__exit__(None, None, None)
