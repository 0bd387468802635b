"""How many invalid credentials of one address are looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from service.features.errors import DependencyUnavailable, NotAuthenticated, TooManyFailures
from service.security import guesses
from service.security.guesses import GuessLimiter
from tests.doubles import Timer

HERE, THERE = "192.0.2.1", "192.0.2.2"


async def attempt(limiter: GuessLimiter, credential: str, fault: Exception | None = None, address: str = HERE) -> str:
    """Authenticate with a credential that is refused by `fault`, or good; returns what came of it."""
    try:
        async with limiter.attempt(address, credential):
            await asyncio.sleep(0)
            if fault is not None:
                raise fault
    except TooManyFailures:
        return "throttled"
    except (NotAuthenticated, DependencyUnavailable) as error:
        return error.code
    return "good"


def wrong(reason: str = "invalid") -> NotAuthenticated:
    """Build the refusal of a credential."""
    return NotAuthenticated("No.", reason=reason)  # type: ignore[arg-type]


async def spend(limiter: GuessLimiter, number: int, address: str = HERE) -> list[str]:
    """Guess so many credentials one after the other."""
    return [await attempt(limiter, f"guess {number}", wrong(), address) for number in range(number)]


async def test_guesses_are_throttled_and_refill_continuously() -> None:
    """The burst is looked at, the next refused; one more for each minute's share, and no more than the burst ever."""
    timer = Timer()
    limiter = GuessLimiter(30, timer=timer)
    assert await spend(limiter, 32) == ["not_authenticated"] * 30 + ["throttled"] * 2
    assert await attempt(limiter, "elsewhere", wrong(), THERE) == "not_authenticated"
    timer.seconds += 2
    assert [await attempt(limiter, f"later {n}", wrong()) for n in range(2)] == ["not_authenticated", "throttled"]
    timer.seconds += 3600
    assert [await attempt(limiter, f"last {n}", wrong()) for n in range(31)].count("throttled") == 1


async def test_guesses_sent_together_are_counted_exactly() -> None:
    """No more are looked at than one after the other: a token is held while its outcome is not known."""
    limiter = GuessLimiter(5, timer=Timer())
    answers = await asyncio.gather(*(attempt(limiter, f"guess {n}", wrong()) for n in range(100)))
    assert (answers.count("not_authenticated"), answers.count("throttled")) == (5, 95)


async def test_good_credentials_sent_together_all_pass() -> None:
    """Those beyond the burst wait for the outcome of the first, which give their tokens back."""
    limiter = GuessLimiter(5, timer=Timer())
    assert await asyncio.gather(*(attempt(limiter, f"key {n}") for n in range(100))) == ["good"] * 100
    assert (await spend(limiter, 6))[4:] == ["not_authenticated", "throttled"]


async def test_a_credential_that_was_valid_always_passes() -> None:
    """Also from an address without tokens; once it is refused, it is one like any other."""
    limiter = GuessLimiter(3, timer=Timer())
    await attempt(limiter, "key")
    await spend(limiter, 9)
    assert [await attempt(limiter, "key") for _ in range(50)] == ["good"] * 50
    assert await attempt(limiter, "key", address=THERE) == "good"
    assert await attempt(limiter, "key", wrong("revoked")) == "not_authenticated"
    assert await attempt(limiter, "key", wrong("revoked")) == "throttled"


@pytest.mark.parametrize("fault", [wrong("expired"), wrong("revoked"), DependencyUnavailable("Away.")])
async def test_only_invalid_credentials_count(fault: Exception) -> None:
    """Whoever holds an expired or revoked credential did not guess it, and an outage says nothing of one."""
    limiter = GuessLimiter(3, timer=Timer())
    assert "throttled" not in [await attempt(limiter, f"old {n}", fault) for n in range(20)]
    assert (await spend(limiter, 4)).count("throttled") == 1


async def test_a_token_comes_back_when_the_request_is_cancelled() -> None:
    """A client that disconnects while its key is looked up leaves nothing held."""
    limiter = GuessLimiter(1, timer=Timer())
    for _ in range(3):
        task = asyncio.create_task(attempt(limiter, "key"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
    assert await attempt(limiter, "guess", wrong()) == "not_authenticated"


async def test_a_new_credential_passes_within_seconds_beside_one_who_guesses() -> None:
    """Guesses that never come twice take every token; a good key is served when it comes back as it was told to."""
    timer = Timer()
    limiter = GuessLimiter(30, timer=timer)
    await spend(limiter, 100)
    with pytest.raises(TooManyFailures) as refusal:
        async with limiter.attempt(HERE, "new key"):
            pytest.fail("the credential was looked at")
    seconds = refusal.value.retry_after
    assert seconds == 2
    assert await attempt(limiter, "new key") == "throttled"
    timer.seconds += seconds
    guessed = [await attempt(limiter, f"more {n}", wrong()) for n in range(100)]
    assert guessed.count("not_authenticated") == 1
    assert await attempt(limiter, "new key") == "good"


async def test_guesses_that_come_back_are_throttled_too() -> None:
    """Sending each guess twice has at most twice as many looked at."""
    timer = Timer()
    limiter = GuessLimiter(30, timer=timer)
    seen = 0
    for _ in range(60):
        seen += (await spend(limiter, 200)).count("not_authenticated")
        timer.seconds += 2
    assert seen <= 2 * (30 + 60)


@pytest.mark.parametrize(
    ("addresses", "same"),
    [
        (("2001:db8::1", "2001:db8::ffff:1"), True),
        (("2001:db8::1", "2001:db8:0:1::1"), False),
        (("::ffff:192.0.2.1", "192.0.2.1"), True),
        (("192.0.2.1", "192.0.2.2"), False),
        (("fe80::1%eth0", "fe80::2"), True),
        (("", ""), True),
        (("no:address", "no:address"), True),
    ],
)
async def test_what_counts_as_one_address(addresses: Sequence[str], *, same: bool) -> None:
    """IPv6 counts by its /64 network; IPv4 is one address however it is written; those without share one bucket."""
    limiter = GuessLimiter(2, timer=Timer())
    await spend(limiter, 2, addresses[0])
    assert await attempt(limiter, "other", wrong(), addresses[1]) == ("throttled" if same else "not_authenticated")


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least recently used addresses and credentials are forgotten."""
    for name in ("MAX_ADDRESSES", "MAX_VALID", "MAX_REFUSED"):
        monkeypatch.setattr(guesses, name, 8)
    limiter = GuessLimiter(1, timer=Timer())
    for number in range(100):
        address = f"10.0.0.{number}"
        assert await attempt(limiter, f"key {number}", address=address) == "good"
        await spend(limiter, 5, address)
    assert max(len(limiter._buckets), len(limiter._valid), len(limiter._refused)) == 8


async def test_zero_turns_it_off() -> None:
    """Every guess is looked at."""
    assert await spend(GuessLimiter(0), 500) == ["not_authenticated"] * 500
