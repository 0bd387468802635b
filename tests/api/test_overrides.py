"""Programs that embed the service put parts of their own in the place of composed ones."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import fields

from service.resources.overrides import NO_OVERRIDES, Overrides
from service.settings import Settings
from tests.api.conftest import World
from tests.support import LiveService

CSV = b"user_id,event\n1,click\n1,view\n2,click\n"


def test_without_overrides_every_part_is_composed() -> None:
    """No override is a default of its own."""
    assert {getattr(NO_OVERRIDES, field.name) for field in fields(Overrides)} == {None}


def test_every_part_is_replaced(world: World) -> None:
    """The runtime holds the given parts, and no model is configured beside the given planner."""
    runtime = world.runtime

    assert runtime.storage.clock is world.clock
    assert runtime.storage.store is world.store
    assert runtime.storage.artifacts is world.artifacts
    assert runtime.notices is world.notices
    assert runtime.extracting.reader is world.engine
    assert runtime.extracting.capacity is world.planner
    assert runtime.extracting.backend is not None
    assert runtime.extracting.backend.planner is world.planner
    assert runtime.extracting.backend.engine is world.engine
    assert runtime.webhooks.sender is world.sender
    assert runtime.telemetry.observer is world.recorder


def test_ids_come_from_the_given_function(
    make_settings: Callable[..., Settings], migrated_databases: Callable[[], AbstractContextManager[str]]
) -> None:
    """Uploads and extractions take their ids from it, in turn."""
    ids = (f"id-{number}" for number in range(100))
    with migrated_databases() as url:
        settings = make_settings(database_url=url)
        with LiveService(settings, Overrides(new_id=lambda: next(ids))) as service:
            assert service.client.upload("events", CSV).status == 201
            answer = service.client.extract("events", "Click counts for each user")

    assert answer.data["extraction_id"] in {f"id-{number}" for number in range(100)}
