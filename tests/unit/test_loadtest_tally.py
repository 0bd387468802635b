"""What clients saw is counted exactly, adds up over processes, and gives the rate that the service achieved."""

from __future__ import annotations

import msgpack
import msgspec
import pytest

from loadtest.traffic.http import Answer, Finished
from loadtest.traffic.shapes import Step
from loadtest.traffic.tally import MAX_SENTENCES, OTHER_FAILURES, Tally, three_digits

STEPS = (Step("warm-up", 10, 5, 5), Step("smoke", 20, 10, 10))


def finished(stage: int = 0, milliseconds: float = 1, failure: str | None = None) -> Finished:
    """One request."""
    return Finished(stage, "GET", "/x", "200", milliseconds, 10, failure)


def filled(offset: int) -> Tally:
    """The counts of one process."""
    tally = Tally(2)
    tally.stages[0].arrivals, tally.stages[0].started = 3 + offset, 3 + offset
    tally.stages[1].completed, tally.stages[1].failed = 2, 1
    tally.stages[0].lags.update({0: 5, 12: 1 + offset})
    tally.stages[1].visits.append((11.5 + offset, 0.25))
    tally.record(finished(0, 12.345))
    tally.record(finished(1, 12.349 + offset, "answered 500"))
    tally.ledger.note(f"key-{offset}", f"extraction-{offset}")
    tally.ledger.unknown.append(f"unknown-{offset}")
    return tally


def over_the_wire(tally: Tally) -> dict[str, object]:
    """A dump as Locust carries it from a worker to its master."""
    return msgpack.unpackb(msgpack.dumps(tally.dump(), use_bin_type=True), raw=False, strict_map_key=False)


def test_counts_of_processes_add_up() -> None:
    """What two workers send to their master is together what one process would have counted."""
    master = Tally(2)
    master.add(over_the_wire(filled(0)))
    master.add(over_the_wire(filled(5)))
    stages = master.results(STEPS, 1000.0)
    assert [(stage.arrivals, stage.started, stage.completed, stage.failed) for stage in stages] == [
        (11, 11, 0, 0),
        (0, 0, 4, 2),
    ]
    assert master.stages[0].lags == {0: 10, 12: 7}
    assert sorted(master.stages[1].visits) == [(11.5, 0.25), (16.5, 0.25)]
    assert [(one.count, one.durations) for one in stages[0].requests] == [(2, {"12.3": 2})]
    assert [(one.count, one.durations) for one in stages[1].requests] == [(2, {"12.3": 1, "17.3": 1})]
    assert master.failures == {"GET /x: answered 500": 2}
    assert master.ledger.accepted == {"key-0": "extraction-0", "key-5": "extraction-5"}
    assert sorted(master.ledger.unknown) == ["unknown-0", "unknown-5"]
    assert (stages[1].began, stages[1].ended, stages[1].rate) == (1010.0, 1030.0, 10)


def test_a_tally_survives_its_file() -> None:
    """The counts that a run leaves as JSON are read back as they were."""
    found = Tally(2)
    found.add(msgspec.json.decode(msgspec.json.encode(filled(0).dump())))
    assert found.results(STEPS, 0) == filled(0).results(STEPS, 0)
    assert found.failures == filled(0).failures


def test_a_report_is_sent_once() -> None:
    """After its report a worker counts from zero, in the ledger that its clients hold on to."""
    worker, master = filled(0), Tally(2)
    ledger = worker.ledger
    master.add(over_the_wire(worker))
    worker.clear()
    assert worker.dump() == Tally(2).dump()
    assert worker.ledger is ledger
    ledger.note("later", "x")
    master.add(over_the_wire(worker))
    assert master.ledger.accepted == {"key-0": "extraction-0", "later": "x"}


def test_a_key_with_two_extractions_is_seen_across_reports() -> None:
    """The second answer under a key is found when the first one was in an earlier report."""
    worker, master = Tally(1), Tally(1)
    for extraction in ("a", "a", "b"):
        worker.ledger.note("key", extraction)
        master.add(over_the_wire(worker))
        worker.clear()
    assert master.ledger.doubled == ["key"]


def test_reports_of_another_plan_are_refused() -> None:
    """Counts of a run with other stages cannot be added."""
    with pytest.raises(ValueError, match="zip"):
        Tally(1).add(Tally(2).dump())


def test_the_sentences_that_are_kept_are_bounded() -> None:
    """A service that answers something else every time does not fill the memory; nothing is left uncounted."""
    tally = Tally(1)
    for number in range(MAX_SENTENCES + 50):
        tally.fail(str(number))
        tally.fail("0")
    assert len(tally.failures) == MAX_SENTENCES + 1
    assert tally.failures[OTHER_FAILURES] == 50
    assert tally.failures.total() == 2 * (MAX_SENTENCES + 50)


@pytest.mark.parametrize(
    ("milliseconds", "written"),
    [
        (0, "0.001"),
        (-5, "0.001"),
        (0.0123456, "0.0123"),
        (1, "1"),
        (1.005, "1"),
        (12.35, "12.3"),
        (99.96, "100"),
        (249.4, "249"),
        (250.4, "250"),
        (1234, "1230"),
        (123456, "123000"),
        (1e7, "1e+07"),
    ],
)
def test_durations_have_three_digits(milliseconds: float, written: str) -> None:
    """A duration is kept with three significant digits, as a number that reads back."""
    assert three_digits(milliseconds) == written
    assert float(written) == pytest.approx(max(milliseconds, 0.001), rel=0.006)


# -- the rate that was achieved ----------------------------------------------------------------------------------


def achieved(arrivals: list[tuple[int, float, float]], steps: tuple[Step, ...] = STEPS) -> list[float]:
    """The achieved rates of visits, each (stage, arrival, length)."""
    tally = Tally(len(steps))
    for stage, at, length in arrivals:
        tally.stages[stage].visits.append((at + length, length))
    return [stage.achieved_rate for stage in tally.results(steps, 0)]


def flat(length: float) -> list[tuple[int, float, float]]:
    """Visits of one length at 5 a second for 10 s, and at 10 a second for 20 s."""
    first = [(0, number / 5, length) for number in range(50)]
    return first + [(1, 10 + number / 10, length) for number in range(200)]


@pytest.mark.parametrize("length", [0.0, 0.125, 1.0, 8.0])
def test_a_service_that_keeps_up_achieves_the_rate(length: float) -> None:
    """Visits that all take the same time leave at the rate at which they came, however long they take."""
    assert achieved(flat(length)) == [5.0, 10.0]


def test_an_overloaded_service_achieves_what_it_gets_done() -> None:
    """Of 10 clients a second a server that takes 6 a second lets 6 a second leave."""
    arrivals, free = [], 0.0
    for number in range(200):
        at = number / 10
        free = max(free, at) + 1 / 6
        arrivals.append((0, at, free - at))
    [rate] = achieved(arrivals, (Step("smoke", 20, 10, 10),))
    assert rate == pytest.approx(6, abs=0.1)


def test_a_service_that_stalls_achieves_little() -> None:
    """Clients that all wait for the end of the stage are no achievement of it."""
    [rate] = achieved([(0, number / 10, 0.01) for number in range(100)] + [(0, 10 + n / 10, 60) for n in range(100)],
                      (Step("smoke", 20, 10, 10),))  # fmt: skip
    assert rate < 6


def test_no_client_achieves_nothing() -> None:
    """A stage without a client has the rate 0."""
    assert achieved([]) == [0.0, 0.0]


def test_lags_are_quantiles() -> None:
    """The p50 and p99 of a stage's lags are its own values: half, and 99 of 100, are not above them."""
    tally = Tally(1)
    tally.stages[0].lags.update({1: 98, 7: 1, 500: 1})
    [stage] = tally.results((Step("s", 1, 1, 1),), 0)
    assert (stage.lag_p50_ms, stage.lag_p99_ms) == (1, 7)


# -- answers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"[]", b'"x"', b"{", b"null", b'{"data": 3}', b'{"data": null}', b"\xff", b"{}"])
def test_answers_that_are_something_else(body: bytes) -> None:
    """An answer without an object under `data` is read as an empty one."""
    assert Answer(200, {}, body).data() == {}


def test_when_to_ask_again() -> None:
    """Retry-After counts in seconds; a date, or none, leaves the client's own pause."""
    assert Answer(503, {"retry-after": "7"}).retry_after(1) == 7
    assert Answer(503, {"retry-after": "Sun, 29 Nov 2026 00:00:00 GMT"}).retry_after(1) == 1
    assert Answer(503).retry_after(1) == 1
