from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import to_builtins
from msgspec.structs import replace

from service.planning.circuit import BreakerPolicy
from tests.redis_process import needs_redis
from tools.testbed.redis import RedisProcess

ROOT = Path(__file__).parents[2]
UNHURRIED = BreakerPolicy(window_seconds=3600.0, min_failures=5, probe_seconds=3600.0)
"""Redis's own clock runs: no machine is too slow for this window and lease."""


_PROCESS = """
import asyncio, json, sys
from redis.asyncio import BlockingConnectionPool
from service.planning.breaker import CircuitOpen
from service.planning.circuit import BreakerPolicy
from service.planning.shared_breaker import SharedBreaker

class Notes:
    def __init__(self):
        self.states = []

    def record(self, event):
        self.states.append(event.state)

async def main():
    pool = BlockingConnectionPool(
        host="127.0.0.1", port=int(sys.argv[1]), max_connections=20, timeout=60, socket_timeout=60
    )
    notes, held = Notes(), []
    policy = BreakerPolicy(**json.loads(sys.argv[2]))
    breaker = SharedBreaker("openai:gpt", pool, observer=notes, policy=policy, timeout_seconds=60)

    async def admit():
        try:
            held.append(await breaker.admit())
        except CircuitOpen:
            return 0
        return 1

    async def obey(command):
        if command.isdigit():
            return sum(await asyncio.gather(*(admit() for _ in range(int(command)))))
        if command == "look":
            await breaker.look()
            return [breaker.state, breaker.retry_after]
        if command == "states":
            return notes.states
        permits, held[:] = list(held), []
        await asyncio.gather(*(getattr(permit, command)() for permit in permits))
        return len(permits)

    print("ready", flush=True)
    while command := (await asyncio.to_thread(sys.stdin.readline)).strip():
        print(json.dumps(await obey(command)), flush=True)
    await pool.aclose()

asyncio.run(main())
"""


class Other:
    """A process with a breaker of its own over the same Redis.

    A number lets so many calls ask at once, and is answered with how many passed; `succeeded`, `failed` or `released`
    ends those that passed; `look` returns the circuit's state, and `states` the changes that it saw.
    """

    def __init__(self, redis: RedisProcess, policy: BreakerPolicy) -> None:
        command = [sys.executable, "-c", _PROCESS, str(redis.port), json.dumps(to_builtins(policy))]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)

    def say(self, command: str | int) -> None:
        """Send a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()

    def hear(self) -> Any:
        """Wait for the answer."""
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def ready(self) -> None:
        """Wait for the process to be there."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def ask(self, command: str | int) -> Any:
        """Send a command and wait for the answer."""
        self.say(command)
        return self.hear()

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def start_two(redis_process: RedisProcess) -> Iterator[Callable[[BreakerPolicy], tuple[Other, Other]]]:
    """Starts two processes of that policy."""
    started: list[Other] = []

    def start(policy: BreakerPolicy) -> tuple[Other, Other]:
        one, other = Other(redis_process, policy), Other(redis_process, policy)
        started.extend((one, other))
        one.ready()
        other.ready()
        return one, other

    yield start
    for process in started:
        process.kill()


def ask_both(processes: tuple[Other, Other], command: str | int) -> list[Any]:
    """Both do it at the same time."""
    for process in processes:
        process.say(command)
    return [process.hear() for process in processes]


@needs_redis
def test_two_processes_send_one_probe_between_them(
    start_two: Callable[[BreakerPolicy], tuple[Other, Other]],
) -> None:
    """Each time an opening is over, of 200 calls at once in two processes exactly one passes; its success frees all."""
    both = start_two(replace(UNHURRIED, open_seconds=0.2, max_open_seconds=0.2))
    assert both[0].ask(5) == 5
    assert both[0].ask("failed") == 5
    for _ in range(6):
        time.sleep(0.25)  # the opening is over; longer would be as well
        assert sum(ask_both(both, 100)) == 1
        assert sum(ask_both(both, 100)) == 0
        assert sum(ask_both(both, "failed")) == 1
    time.sleep(0.25)
    assert sum(ask_both(both, 100)) == 1
    assert sum(ask_both(both, "released")) == 1
    assert sum(ask_both(both, 100)) == 1
    assert sum(ask_both(both, "succeeded")) == 1
    assert ask_both(both, 100) == [100, 100]
    for states in ask_both(both, "states"):
        assert states[-1] == "closed"
        assert {"open", "half_open"} & set(states)
        assert all(one != other for one, other in itertools.pairwise(states)), "a change is recorded once"


@needs_redis
def test_a_process_without_calls_sees_the_circuit_s_state(
    start_two: Callable[[BreakerPolicy], tuple[Other, Other]],
) -> None:
    """One that only looks learns what the other found out, takes no probe, and changes nothing."""
    one, other = start_two(replace(UNHURRIED, open_seconds=0.5, max_open_seconds=600.0))
    assert other.ask("look") == ["closed", None]
    assert one.ask(5) == 5
    assert one.ask("failed") == 5
    state, left = other.ask("look")
    assert (state, left <= 0.5) == ("open", True)
    time.sleep(0.6)  # the opening is over; longer would be as well
    assert other.ask("look") == ["open", 0.0]
    assert one.ask(1) == 1, "a look took the probe"
    assert other.ask("look")[0] == "half_open"
    assert one.ask("succeeded") == 1
    assert other.ask("look") == ["closed", None]
    assert other.ask("states") == ["open", "half_open", "closed"]


@needs_redis
def test_a_probe_whose_process_is_killed_is_replaced_after_its_lease(
    start_two: Callable[[BreakerPolicy], tuple[Other, Other]],
) -> None:
    """A process that dies with the probe blocks it until the lease ends, not for ever."""
    lease = 1.5
    one, other = start_two(replace(UNHURRIED, open_seconds=0.05, probe_seconds=lease))
    assert one.ask(5) == 5
    assert one.ask("failed") == 5
    time.sleep(0.1)  # the opening is over; longer would be as well
    asked = time.monotonic()
    assert one.ask(1) == 1
    one.kill()
    while not other.ask(1):
        pass
    assert time.monotonic() - asked > lease - 0.1  # give or take a clock that is being adjusted
    while other.ask("succeeded") and other.ask("states")[-1] != "closed":
        other.ask(1)  # the machine is so slow that the lease ended before the probe did
    assert other.ask("states")[-1] == "closed"
    assert other.ask(100) == 100
