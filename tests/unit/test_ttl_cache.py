from __future__ import annotations

from service.security.cache import TtlCache
from tests.doubles import Timer


def test_a_value_is_given_back_until_its_time_is_over() -> None:
    """An entry lives for its seconds and not an instant longer."""
    timer = Timer()
    cache: TtlCache[str, int] = TtlCache(2, 10.0, timer)
    cache.put("a", 1)
    timer.seconds = 9.999
    assert cache.get("a") == 1
    timer.seconds = 10.0
    assert cache.get("a") is None
    assert len(cache) == 0


def test_a_full_cache_forgets_its_oldest_entry() -> None:
    """The cache never grows over its capacity; what would expire first makes room."""
    cache: TtlCache[str, int] = TtlCache(2, 10.0, Timer())
    for number, name in enumerate("abc"):
        cache.put(name, number)
    assert len(cache) == 2
    assert [cache.get(name) for name in "abc"] == [None, 1, 2]


def test_putting_again_renews_an_entry() -> None:
    """A value put again replaces the old one, lives from then on, and is no longer the oldest."""
    timer = Timer()
    cache: TtlCache[str, int] = TtlCache(2, 10.0, timer)
    cache.put("a", 1)
    cache.put("b", 2)
    timer.seconds = 6.0
    cache.put("a", 3)
    cache.put("c", 4)
    timer.seconds = 12.0
    assert [cache.get(name) for name in "abc"] == [3, None, 4]


def test_putting_again_pushes_nothing_out() -> None:
    """Renewing an entry of a full cache leaves the others where they are."""
    cache: TtlCache[str, int] = TtlCache(2, 10.0, Timer())
    cache.put("a", 1)
    cache.put("b", 2)
    cache.put("b", 3)
    assert [cache.get(name) for name in "ab"] == [1, 3]
