from __future__ import annotations

import asyncio
import threading
from itertools import count

import pytest

from service.agents.builtin import model as builtin
from service.agents.builtin.plan import make_plan
from service.agents.planner import AgentPlanner
from service.agents.prompts import Request
from service.concurrency.deadline import deadline
from service.concurrency.threads import checked, checkpoint, run_in_thread
from service.features.errors import DeadlineExceeded, ModelTimeout
from service.planning.admission import Admission, AdmittedPlanner
from tests.doubles import Recorder
from tests.integration.test_planner import request


class Work:
    """Work without an end but by `checkpoint`, which tells when it has begun and ended."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.ended = threading.Event()

    def __call__(self) -> None:
        """Work."""
        self.begun.set()
        try:
            for _ in checked(count()):
                pass
        finally:
            self.ended.set()


async def test_value_and_error_pass() -> None:
    """What the function returns or raises arrives."""
    assert await run_in_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await run_in_thread(divmod, 7, 0)


async def test_the_deadline_ends_the_work() -> None:
    """Work that is out of time raises at its next checkpoint, in the thread itself."""
    work = Work()
    with deadline(0.05), pytest.raises(DeadlineExceeded):
        await run_in_thread(work)
    assert work.ended.is_set()


@pytest.mark.parametrize("times", [1, 3])
async def test_a_cancelled_caller_waits_for_the_end(times: int) -> None:
    """A caller that is cancelled, however often, goes on only when the work has ended."""
    work = Work()
    running = asyncio.create_task(run_in_thread(work))
    await asyncio.to_thread(work.begun.wait)
    for _ in range(times):
        running.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await running
    assert work.ended.is_set()


def test_checkpoint_elsewhere() -> None:
    """Outside a thread of its own a checkpoint knows the deadline alone."""
    checkpoint()
    with deadline(0), pytest.raises(DeadlineExceeded):
        checkpoint()


class SlowPlan:
    """The rules of the built-in planner, again and again, so that no machine is quick enough."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = threading.Event()
        self.running = 0
        monkeypatch.setattr(builtin, "make_plan", self)

    def __call__(self, data: Request) -> object:
        """Plan for ever."""
        self.running += 1
        self.begun.set()
        try:
            while True:
                make_plan(data)
        finally:
            self.running -= 1


async def test_no_place_is_free_while_a_plan_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """When planning is out of time its thread has ended, its place is back, and it counts as the model's timeout."""
    slow, admission = SlowPlan(monkeypatch), Admission(concurrency=1, queue=0, observer=Recorder())
    agent = AgentPlanner(builtin.BuiltinPlanner(), name=builtin.NAME, observer=Recorder())
    planner = AdmittedPlanner(agent, admission)
    with deadline(0.5), pytest.raises(ModelTimeout):
        await planner.propose(request("aB" * 4990))
    assert slow.begun.is_set()
    assert slow.running == 0
    admission.require_place()


async def test_a_cancelled_plan_ends_before_its_place_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that goes away takes the thread with it."""
    slow, admission = SlowPlan(monkeypatch), Admission(concurrency=1, queue=0, observer=Recorder())
    agent = AgentPlanner(builtin.BuiltinPlanner(), name=builtin.NAME, observer=Recorder())
    running = asyncio.create_task(AdmittedPlanner(agent, admission).propose(request("aB" * 4990)))
    await asyncio.to_thread(slow.begun.wait)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert slow.running == 0
    admission.require_place()
