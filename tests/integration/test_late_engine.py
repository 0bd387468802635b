"""The engine of a process that seldom computes: opened once, when it is first asked for something."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from service.features.ports import Engine
from service.resources.computing import LateEngine, open_engine
from service.resources.storage import open_storage
from service.settings import Settings


async def test_the_engine_is_opened_once_by_whoever_comes_first(make_settings: Callable[..., Settings]) -> None:
    """Nothing is opened before it is asked; those who ask at once get the same engine, and it works."""
    storage = open_storage(make_settings())
    opened: list[Engine] = []

    def open_() -> Engine:
        opened.append(open_engine(storage))
        return opened[-1]

    engine = LateEngine(open_)
    assert opened == []
    await asyncio.gather(*(engine.ping() for _ in range(5)))
    assert len(opened) == 1
    await storage.close()
