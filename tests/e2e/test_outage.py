"""The preferred model fails altogether while two processes serve two hundred clients at once.

The short form runs with all tests and is strict about what must be true at any speed. The long form is for a machine
with nothing else to do: with `OUTAGE_SECONDS` (of storm, over 20) it also holds the two figures of latency, and with
`OUTAGE_CLIENTS` there may be more clients.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from tests.e2e.outage_clients import Outcome, Storm
from tests.e2e.outage_stand import Prober, ServiceProcess, percentile, run_storm, upload
from tests.redis_process import needs_redis, running_redis
from tools.testbed.api_client import Client
from tools.testbed.model_scenarios import CELL, SECRET
from tools.testbed.model_server import ModelServerProcess

CLIENTS = int(os.environ.get("OUTAGE_CLIENTS", "200"))
SECONDS = float(os.environ.get("OUTAGE_SECONDS", "0"))
"""0 is the short form."""
PROBE_SECONDS = 20.0
"""A storm that outlasts the first 15 s of an open circuit, and so meets its first probe."""
BURST_SECONDS = 8.0
"""A storm that is over before the first probe."""
PAUSE_SECONDS = 5.0
OPEN_SECONDS = 15.0
"""For how long a circuit opens the first time; it doubles with every failed probe, up to two minutes."""
OPEN_SECONDS_MOST = 120.0
LONGEST_WAIT_SECONDS = OPEN_SECONDS_MOST + 10.0
"""What a client may be told: the longest opening, and the spread that keeps clients from coming back together."""
CLOCK_SECONDS = 0.5
"""By how much the provider's clock and Redis's may run apart meanwhile."""
OPENING_SECONDS = 10.0
"""Requests that follow their predecessor sooner belong to the same wave: far longer than the retries of one call take,
and shorter than any opening."""
ATTEMPTS = 3
CONCURRENCY = 16
WARM = 12
"""Clients of the time before the outage, so that its first seconds are not those of opening connections."""
REFUSED_P99_SECONDS = 1.0
LIVE_P95_SECONDS = 0.05
SANE_SECONDS = 60.0
"""What no refusal may take even on a machine with other work: the time that planning may take."""
PRIMARY, FALLBACK = "preferred", "good.fallback"
DATASET = "clicks"

pytestmark = [
    pytest.mark.proof,
    needs_redis,
    pytest.mark.xdist_group("outage"),
    pytest.mark.timeout(300 + 3 * SECONDS),
]


@dataclass(frozen=True)
class Stand:
    """Everything that runs."""

    services: tuple[ServiceProcess, ServiceProcess]
    provider: ModelServerProcess
    key: str
    begun: float
    """When the outage did, in seconds since the epoch."""

    def storm(self, seconds: float) -> tuple[list[Outcome], list[Prober]]:
        """Two hundred clients, and the health of both processes meanwhile."""
        ports = tuple(service.port for service in self.services)
        with ExitStack() as stack:
            probers = [stack.enter_context(Prober(port)) for port in ports]
            outcomes = run_storm(Storm(ports, self.key, DATASET, CLIENTS, seconds, PAUSE_SECONDS))
        return outcomes, probers

    @property
    def client(self) -> Client:
        """A caller of the first process."""
        return Client(self.services[0].address, self.key)

    @property
    def asked(self) -> list[float]:
        """When the preferred model was asked during the outage, in seconds since the epoch."""
        return [at for at in self.provider.times(PRIMARY) if at >= self.begun]


@contextmanager
def stand(folder: Path, database_url: str, **settings: str) -> Generator[Stand]:
    """Two services that have planned before, and whose preferred model now answers 500 to everything."""
    with ExitStack() as stack:
        redis_url = stack.enter_context(running_redis(folder)).url
        provider = stack.enter_context(ModelServerProcess())
        environment = {
            "ENVIRONMENT": "test", "PORT": "0", "PROMETHEUS_PORT": "0", "RATE_LIMIT_PER_MINUTE": "0",
            "MAX_WAITING_PER_PRINCIPAL": "0",
            "DATABASE_URL": database_url, "REDIS_URL": redis_url, "DATA_DIR": str(folder / "data"),
            "PRIMARY_MODEL": f"openai-chat:{PRIMARY}", "MODEL_CONCURRENCY": str(CONCURRENCY),
            "OPENAI_API_KEY": SECRET, "OPENAI_BASE_URL": provider.url, **settings,
        }  # fmt: skip
        first = stack.enter_context(ServiceProcess(environment, folder / "first.log"))
        second = stack.enter_context(ServiceProcess(environment, folder / "second.log"))
        key = (folder / "data" / "development.key").read_text().strip()
        upload(Client(first.address, key), DATASET)
        provider.assign(PRIMARY, "good")
        with ThreadPoolExecutor(WARM) as pool:
            served = pool.map(
                lambda number: Client((first, second)[number % 2].address, key).extract(
                    DATASET, f"Mean price of every user, asked for the {number}th time"
                ),
                range(4 * WARM),
            )
        assert {answer.status for answer in served} <= {200, 503}
        provider.assign(PRIMARY, "status-500")
        yield Stand((first, second), provider, key, time.time())


def waves(times: Sequence[float]) -> list[list[float]]:
    """Instants in groups, wherever none came for OPENING_SECONDS."""
    groups: list[list[float]] = []
    for at in sorted(times):
        if not groups or at - groups[-1][-1] > OPENING_SECONDS:
            groups.append([])
        groups[-1].append(at)
    return groups


def require_single_probes(stood: Stand) -> None:
    """After the wave that opened the circuit, one request at a time from both processes together, ever longer apart.

    But when Redis did not answer a process in time, which it logs, that one breaks circuits by itself for a moment.
    """
    opening, *probes = waves(stood.asked)
    print(f"requests to the preferred model: {[len(wave) for wave in (opening, *probes)]}")  # noqa: T201 - as below
    assert all(len(wave) <= 2 * CONCURRENCY * ATTEMPTS for wave in (opening, *probes))
    lone = [probe for probe in probes if not any(service.without_redis(probe) for service in stood.services)]
    assert [len(probe) for probe in lone] == [1] * len(lone)
    if lone != probes:
        return
    instants = [opening[0], *(probe[0] for probe in probes)]
    gaps = [after - before for before, after in pairwise(instants)]
    least = [min(OPEN_SECONDS * 2**number, OPEN_SECONDS_MOST) for number in range(len(gaps))]
    assert all(gap >= seconds - CLOCK_SECONDS for gap, seconds in zip(gaps, least, strict=True)), gaps


def require_discretion(stood: Stand) -> None:
    """The provider's words and the key are in no log."""
    for service in stood.services:
        assert "listening" in service.log
        assert [canary for canary in (SECRET, CELL, "provider-canary") if canary in service.log] == []


def await_probe(stood: Stand) -> None:
    """Ask until the open circuit has let a request through."""
    deadline = time.monotonic() + OPEN_SECONDS_MOST
    while len(waves(stood.asked)) < 2:
        assert time.monotonic() < deadline, "no probe came"
        assert stood.client.extract(DATASET, f"Mean price of every user at {time.monotonic()}").status == 503
        time.sleep(0.5)


def require_health(probers: Sequence[Prober], refusals: Sequence[float]) -> None:
    """Report the two figures; hold them where the machine has nothing else to do."""
    live = [percentile(prober.seconds, 95) for prober in probers]
    refused = percentile(list(refusals), 99) if refusals else 0.0
    print(  # noqa: T201 - the figures are what the long form is run for
        f"/health/live p95 {', '.join(f'{p95 * 1000:.1f}' for p95 in live)} ms of {len(probers[0].seconds)}; "
        f"refusals {len(refusals)}, p50 {percentile(list(refusals), 50) * 1000 if refusals else 0:.0f}, "
        f"p99 {refused * 1000:.0f} ms"
    )
    assert [prober.failures for prober in probers] == [[], []]
    assert max(*live, refused) < SANE_SECONDS
    if SECONDS:
        assert refused < REFUSED_P99_SECONDS
        assert max(live) < LIVE_P95_SECONDS


def told_to_wait(outcome: Outcome) -> bool:
    """A refusal that says when to come back, in whole seconds; a crowd may also exhaust the database connections."""
    known = outcome.code in {"model_unavailable", "planning_busy", "dependency_unavailable"}
    return outcome.status == 503 and known and 1 <= (outcome.retry_after or 0) <= LONGEST_WAIT_SECONDS


def test_the_fallback_answers_while_the_preferred_model_is_out(tmp_path: Path, new_database: Callable[[], str]) -> None:
    """Every client gets the fallback's features or is told when to come back, and the first mended call ends it."""
    with stand(tmp_path, new_database(), FALLBACK_MODEL=f"openai-chat:{FALLBACK}") as stood:
        outcomes, probers = stood.storm(SECONDS or BURST_SECONDS)
        print(f"\n{tally(outcomes)}")  # noqa: T201 - as below

        answered = [outcome for outcome in outcomes if outcome.status == 200]
        refused = [outcome for outcome in outcomes if outcome.status != 200]
        assert {outcome.client for outcome in outcomes} == set(range(CLIENTS))
        assert all(told_to_wait(outcome) for outcome in refused)
        assert answered
        assert {(outcome.model, outcome.fallback) for outcome in answered} == {(f"openai-chat:{FALLBACK}", True)}
        require_single_probes(stood)
        require_discretion(stood)
        require_health(probers, [outcome.seconds for outcome in refused])

        stood.provider.assign(PRIMARY, "good")
        assert recovered(stood.client)


def recovered(client: Client) -> bool:
    """Whether the preferred model plans again once the circuit lets a probe through."""
    deadline = time.monotonic() + OPEN_SECONDS_MOST + 30
    number = 0
    while time.monotonic() < deadline:
        number += 1
        answer = client.extract(DATASET, f"Mean price of every user after the outage, number {number}")
        if answer.status == 200 and answer.data["model"]["name"] == f"openai-chat:{PRIMARY}":
            return answer.data["model"]["fallback"] is False
        time.sleep(1.0)
    return False


def test_without_a_fallback_every_client_is_told_when_to_come_back(
    tmp_path: Path, new_database: Callable[[], str]
) -> None:
    """All are refused with Retry-After; when all come back as told, a single one of them tries the model."""
    with stand(tmp_path, new_database()) as stood:
        outcomes, probers = stood.storm(SECONDS or PROBE_SECONDS)
        print(f"\n{tally(outcomes)}")  # noqa: T201 - as below

        assert {outcome.client for outcome in outcomes} == set(range(CLIENTS))
        assert all(told_to_wait(outcome) for outcome in outcomes)
        await_probe(stood)
        require_single_probes(stood)
        require_discretion(stood)
        require_health(probers, [outcome.seconds for outcome in outcomes])


def tally(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """How many answers of each kind there were."""
    return dict(Counter(f"{outcome.status} {outcome.code}".strip() for outcome in outcomes))
