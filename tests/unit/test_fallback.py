from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Self

import pytest

from service.agents.fallback import SHARE, FallbackPlanner
from service.concurrency.deadline import deadline, remaining
from service.features.errors import (
    DeadlineExceeded,
    FeatureAgentError,
    ModelOutputInvalid,
    ModelTimeout,
    ModelUnavailable,
    RequestImpossible,
)
from service.features.events import ModelFellBack
from service.features.model import Dataset, ExtractionOptions, FeaturePlan, ModelUsage, Profile
from service.features.ports import PlanRequest, Proposal

REQUEST = PlanRequest(
    Dataset("d", "acme", "text/csv", 1, "k", Profile(1, (), "0" * 64), datetime(2026, 1, 1, tzinfo=UTC)),
    "a sentence",
    ExtractionOptions(),
)
PLAN = FeaturePlan(grain="row", features=())


class Scripted:
    """A planner that answers or fails as scripted, and notes the time it was given."""

    def __init__(self, name: str, outcome: Exception | None = None, *, on_enter: Exception | None = None) -> None:
        self.name = name
        self.given: list[float] = []
        self.open = False
        self._outcome = outcome
        self._on_enter = on_enter

    async def __aenter__(self) -> Self:
        if self._on_enter is not None:
            raise self._on_enter
        self.open = True
        return self

    async def __aexit__(self, *_error: object) -> None:
        self.open = False

    async def propose(self, request: PlanRequest) -> Proposal:
        """Answer or fail."""
        self.given.append(remaining())
        if self._outcome is not None:
            raise self._outcome
        return Proposal(PLAN, ModelUsage(self.name))


class Events(list[Any]):
    """An observer that is the list of its events."""

    record: Callable[[Any], None] = list.append

    @contextmanager
    def stage(self, extraction_id: str, stage: str) -> Any:
        """No span."""
        yield


def fallback(*planners: Scripted, events: Events | None = None, timeout: float = 100) -> FallbackPlanner:
    """The planners in a row."""
    row: Sequence[Any] = planners
    return FallbackPlanner(row, observer=events if events is not None else Events(), timeout=timeout)


async def test_alone() -> None:
    """One planner alone gets all the time, and its answer is no fallback."""
    alone = Scripted("alone")
    proposal = await fallback(alone).propose(REQUEST)
    assert proposal.usage == ModelUsage("alone")
    assert 99 < alone.given[0] <= 100


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ModelUnavailable("away"), "model_unavailable"),
        (ModelTimeout("late"), "model_timeout"),
        (ModelOutputInvalid("wrong"), "model_output_invalid"),
    ],
)
async def test_next_one_plans(error: FeatureAgentError, code: str) -> None:
    """Whatever the model's failure, the next planner is asked, and the fallback recorded."""
    events = Events()
    first, second, third = Scripted("first", error), Scripted("second"), Scripted("third")
    proposal = await fallback(first, second, third, events=events).propose(REQUEST)
    assert proposal.usage == ModelUsage("second", fallback=True)
    assert events == [ModelFellBack("first", "second", code)]
    assert third.given == []


@pytest.mark.parametrize("error", [RequestImpossible("no such column"), RuntimeError("a fault of ours")])
async def test_not_the_models_failure(error: Exception) -> None:
    """An answer that the request is impossible is an answer, and a fault of the service is no reason to go on."""
    events = Events()
    second = Scripted("second")
    with pytest.raises(type(error)):
        await fallback(Scripted("first", error), second, events=events).propose(REQUEST)
    assert second.given == []
    assert events == []


async def test_shares_of_the_time() -> None:
    """Each but the last gets a share of what is left, the last all of it."""
    row = [Scripted("first", ModelTimeout("late")), Scripted("second", ModelTimeout("late")), Scripted("third")]
    await fallback(*row).propose(REQUEST)
    shares = [planner.given[0] for planner in row]
    assert shares == pytest.approx([100 * SHARE, 100 * SHARE, 100], rel=0.05)


async def test_callers_deadline() -> None:
    """A deadline that is earlier than the planners' own time is what they share."""
    first, second = Scripted("first", ModelTimeout("late")), Scripted("second")
    with deadline(10):
        await fallback(first, second).propose(REQUEST)
    assert first.given[0] <= 10 * SHARE
    assert second.given[0] <= 10


async def test_no_time_to_begin_with() -> None:
    """Without any time nobody is asked, and no model is blamed."""
    first = Scripted("first")
    with deadline(0), pytest.raises(DeadlineExceeded):
        await fallback(first).propose(REQUEST)
    assert first.given == []


async def test_a_share_that_ends() -> None:
    """A planner that finds no time left in its share has timed out, and the next one plans."""
    events = Events()
    proposal = await fallback(Scripted("first", DeadlineExceeded("over")), Scripted("second"), events=events).propose(
        REQUEST
    )
    assert proposal.usage.name == "second"
    assert events == [ModelFellBack("first", "second", "model_timeout")]


@pytest.mark.parametrize(
    ("waits", "least"), [((30.0, 5.0, None), 5.0), ((None, None, None), None), ((0.0, 9.0, 8.0), 0.0)]
)
async def test_all_failed(waits: Sequence[float | None], least: float | None) -> None:
    """When all fail, the last one's error is raised, with the soonest time at which one wants to be asked again."""
    row = [Scripted(str(place), ModelUnavailable(str(place), retry_after=wait)) for place, wait in enumerate(waits)]
    with pytest.raises(ModelUnavailable, match="2") as raised:
        await fallback(*row).propose(REQUEST)
    assert raised.value.retry_after == least


async def test_opens_and_closes_all() -> None:
    """The connections of all planners are open while it is, and closed when one of them cannot be opened."""
    first, second = Scripted("first"), Scripted("second")
    async with fallback(first, second):
        assert first.open
        assert second.open
    assert not first.open
    assert not second.open
    with pytest.raises(OSError, match="refused"):
        await fallback(first, Scripted("third", on_enter=OSError("refused"))).__aenter__()
    assert not first.open


def test_needs_a_planner() -> None:
    """No planner at all is a mistake in the composition."""
    with pytest.raises(ValueError, match="needs a planner"):
        fallback()
