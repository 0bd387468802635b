from __future__ import annotations

import asyncio
import logging

import pytest

from service.concurrency.optional_dependency import PAUSE_SECONDS, WARNING_SECONDS, OptionalDependency, Unavailable
from tests.doubles import Timer

_LOG = logging.getLogger("tests.optional_dependency")
PATIENT = 60.0
"""Seconds to wait where the wait itself is not what is tested: the machine may be busy."""


class Fault(Exception):
    """What the server's client raises when it is away."""


class Server:
    """Counts calls; answers, or fails on command."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.asked = 0

    async def answer(self) -> int:
        """The number of the call."""
        self.asked += 1
        await asyncio.sleep(0)
        if self.fault is not None:
            raise self.fault
        return self.asked


def attend(timer: Timer, timeout_seconds: float = PATIENT) -> OptionalDependency:
    """The server, asked with patience."""
    return OptionalDependency(
        "The server",
        faults=(Fault,),
        without="nobody counts",
        logger=_LOG,
        timeout_seconds=timeout_seconds,
        timer=timer,
    )


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings so far."""
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


async def test_an_answer_is_passed_on(caplog: pytest.LogCaptureFixture) -> None:
    """While the server answers, each call reaches it and nothing is said."""
    caplog.set_level(logging.INFO, _LOG.name)
    server, asked = Server(), attend(Timer())
    assert [await asked.call(server.answer) for _ in range(3)] == [1, 2, 3]
    assert not caplog.records


@pytest.mark.parametrize("fault", [Fault("secret"), ConnectionRefusedError("secret"), TimeoutError("secret")])
async def test_a_fault_is_absence(fault: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """The client's faults and the network's are Unavailable; the warning names their kind and not their words."""
    server, asked = Server(), attend(Timer())
    server.fault = fault
    with pytest.raises(Unavailable) as away:
        await asked.call(server.answer)
    assert away.value.__cause__ is fault
    assert warnings_in(caplog) == [
        f"The server is unreachable ({type(fault).__name__}): nobody counts until it answers"
    ]


async def test_a_mistake_is_not_absence(caplog: pytest.LogCaptureFixture) -> None:
    """Any other error is the caller's to see, and the server is asked again at once."""
    server, asked = Server(), attend(Timer())
    server.fault = KeyError("mistake")
    for _ in range(2):
        with pytest.raises(KeyError):
            await asked.call(server.answer)
    assert server.asked == 2
    assert not warnings_in(caplog)


async def test_an_absent_server_is_left_alone_for_the_pause() -> None:
    """After a fault nobody asks until the pause is over; then one call does, and again after each further pause."""
    timer, server = Timer(), Server()
    asked = attend(timer)
    server.fault = Fault()
    for _ in range(4):
        for _ in range(5):
            with pytest.raises(Unavailable):
                await asked.call(server.answer)
        timer.seconds += PAUSE_SECONDS
    assert server.asked == 4


async def test_of_a_burst_after_the_pause_one_call_tries_and_its_success_ends_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Twenty calls at once make one attempt; once it succeeded, all reach the server again."""
    caplog.set_level(logging.INFO, _LOG.name)
    timer, server = Timer(), Server()
    asked = attend(timer)
    server.fault = Fault()
    with pytest.raises(Unavailable):
        await asked.call(server.answer)
    timer.seconds += PAUSE_SECONDS
    server.fault = None
    answers = await asyncio.gather(*(asked.call(server.answer) for _ in range(20)), return_exceptions=True)
    assert [answer for answer in answers if not isinstance(answer, Unavailable)] == [2]
    assert caplog.records[-1].getMessage() == "The server answers again"
    assert [await asked.call(server.answer) for _ in range(3)] == [3, 4, 5]
    assert [record.getMessage() for record in caplog.records].count("The server answers again") == 1


async def test_one_warning_tells_of_many_faults(caplog: pytest.LogCaptureFixture) -> None:
    """Calls that were under way when the server went all fail, and the log says it once, and once a minute later."""
    timer, server = Timer(), Server()
    asked = attend(timer)
    server.fault = Fault()
    answers = await asyncio.gather(*(asked.call(server.answer) for _ in range(20)), return_exceptions=True)
    assert all(isinstance(answer, Unavailable) for answer in answers)
    assert (server.asked, len(warnings_in(caplog))) == (20, 1)
    timer.seconds += WARNING_SECONDS - 0.5
    with pytest.raises(Unavailable):
        await asked.call(server.answer)
    assert len(warnings_in(caplog)) == 1
    timer.seconds += PAUSE_SECONDS
    with pytest.raises(Unavailable):
        await asked.call(server.answer)
    assert len(warnings_in(caplog)) == 2


async def test_a_silent_server_is_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    """A call that never ends is given up after the patience, and is cancelled."""
    cancelled = asyncio.Event()

    async def silence() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(Unavailable) as away:
        await attend(Timer(), timeout_seconds=0.01).call(silence)
    assert isinstance(away.value.__cause__, TimeoutError)
    await cancelled.wait()
    assert warnings_in(caplog) == ["The server is unreachable (TimeoutError): nobody counts until it answers"]


async def test_a_deaf_call_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    """The patience holds though the call loses its cancellation, and how it ends later is nobody's trouble."""
    let_go, ended = asyncio.Event(), asyncio.Event()
    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    async def deaf() -> None:
        try:
            await let_go.wait()
        except asyncio.CancelledError:
            await let_go.wait()
        ended.set()
        raise Fault("too late")

    with pytest.raises(Unavailable):
        await attend(Timer(), timeout_seconds=0.01).call(deaf)
    let_go.set()
    await ended.wait()
    await asyncio.sleep(0)
    assert not reported
    assert len(warnings_in(caplog)) == 1


async def test_a_caller_that_goes_away_takes_its_call_along(caplog: pytest.LogCaptureFixture) -> None:
    """Cancelling the caller cancels the call; that is no absence, and the next caller asks the server."""
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    asked = attend(Timer())
    caller = asyncio.create_task(asked.call(slow))
    await started.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await cancelled.wait()
    assert await asked.call(Server().answer) == 1
    assert not warnings_in(caplog)
