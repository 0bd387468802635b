"""Starts each client at the moment at which it is due, and collects what the clients of all processes saw."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any, cast

import gevent
import msgspec
from gevent.pool import Group
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from loadtest.errors import BadInput
from loadtest.results import NO_ANSWER
from loadtest.traffic.arrivals import Arrival, arrivals, total_seconds
from loadtest.traffic.clients import CREATED, DATASETS, EXTRACT, EXTRACTIONS, KINDS, OK, TAKEN, Failed, Visit, World
from loadtest.traffic.http import Answer, Connection, Finished
from loadtest.traffic.plan import (
    DRAIN_TIMEOUT_SECONDS,
    PROGRESS_FILE,
    STOP_FILE,
    TALLY_FILE,
    Outcome,
    Plan,
    Progress,
)
from loadtest.traffic.pool import Pool, table
from loadtest.traffic.tally import StageTally, Tally

SLOW_MILLISECONDS = 1000.0
CPU_WINDOW_SECONDS = 5
PREPARED_EXTRACTIONS = 3
PREPARED_SENTENCE = "The number of orders of each user"


class State:
    """What the processes of one run know of it."""

    def __init__(self) -> None:
        self.plan: Plan | None = None
        self.tally = Tally(0)
        self.began = 0.0
        """Moment of the first arrival's clock; 0 before it."""
        self.began_monotonic = 0.0
        self.left = 0
        """Processes whose last client has left."""
        self.cores = 0.0
        self.stop_file: Path | None = None
        self.enough = False
        """Whether no more clients are to come: the stop file is there."""
        self.stopping = False
        """Whether the run is to end at once: the process was asked to."""
        self._folder: Path | None = None

    # -- before --------------------------------------------------------------------------------------------------

    def collect(self, environment: Environment) -> None:
        """Have workers send their counts to the master with Locust's own reports."""
        hooks: Any = environment.events
        hooks.report_to_master.add_listener(self._report)
        hooks.worker_report.add_listener(self._take)
        hooks.quitting.add_listener(self._finish)

    def stop(self) -> None:
        """End the run now, with its counts."""
        self.stopping = True

    def begin(self, environment: Environment, plan: Plan, folder: str) -> None:
        """Take the plan."""
        self.plan = plan
        self.tally = Tally(len(plan.steps))
        self.began, self.began_monotonic = 0.0, time.monotonic()
        self.stop_file = Path(folder) / STOP_FILE if folder else None
        if folder and not isinstance(environment.runner, WorkerRunner):
            self._folder = Path(folder)
            self._folder.mkdir(parents=True, exist_ok=True)
            gevent.spawn(self._write_progress)

    def prepare_data(self, host: str, api_key: str) -> None:
        """Upload what the clients ask about, and have some features extracted that the first readers find.

        Raises BadInput when the service does not take it.
        """
        plan = self.required_plan()
        data = plan.scenario.data
        connection = Connection(host, api_key, self._prepared)
        for number, dataset_id in enumerate(plan.datasets):
            path = f"{DATASETS}?dataset_id={dataset_id}"
            content = table(data.rows, data.seed + number)
            answer = _prepare(connection, DATASETS, path, content, "text/csv")
            if answer.status not in CREATED:
                raise BadInput(f"{host}: uploading the data pool was {_said(answer)}")
        for dataset_id in plan.datasets[:PREPARED_EXTRACTIONS]:
            body = {"dataset_id": dataset_id, "feature_description": PREPARED_SENTENCE, "quality_threshold": "low"}
            answer = _prepare(connection, EXTRACT, EXTRACT, json.dumps(body).encode(), "application/json")
            if answer.status not in TAKEN:
                raise BadInput(f"{host}: a first extraction of the data pool was {_said(answer)}")
            extraction_id = str(answer.data()["extraction_id"])
            self.tally.ledger.note(extraction_id, extraction_id)
        connection.close()

    def _prepared(self, finished: Finished) -> None:
        self.tally.prepared[f"{finished.method} {finished.endpoint}"] += 1

    def find_ended(self, host: str, api_key: str) -> list[str]:
        """Give the extractions that have ended before the run, for the first readers."""
        connection = Connection(host, api_key, self._prepared)
        path = f"{EXTRACTIONS}?limit=20&status=completed"
        answer = connection.send(0, "GET", EXTRACTIONS, path, due=time.monotonic(), expected=OK)
        connection.close()
        return [str(item["extraction_id"]) for item in answer.data().get("items", ())]

    def required_plan(self) -> Plan:
        """Give the plan of a run that has begun."""
        if self.plan is None:
            raise RuntimeError("the run has not begun")
        return self.plan

    def options_of(self, runner: Any) -> Any:
        """Give Locust's options, the run's own among them."""
        return runner.environment.parsed_options

    # -- between processes ---------------------------------------------------------------------------------------

    def over(self) -> bool:
        """Whether the last client of every process has left, or the time for it is over."""
        if self.plan is None or self.stopping:
            return self.stopping
        limit = total_seconds(self.plan.steps) + DRAIN_TIMEOUT_SECONDS
        return self.left >= self.plan.options.generators or time.monotonic() - self.began_monotonic > limit

    def start(self) -> float:
        """Begin the clock of the arrivals; gives it as time.monotonic()."""
        self._start(time.time())
        return time.monotonic()

    def _start(self, began: float) -> None:
        if not self.began:
            self.began_monotonic = time.monotonic()
        self.began = began

    def _report(self, client_id: str, data: dict[str, Any]) -> None:
        """Send what was counted since the last report."""
        del client_id
        if self.plan is not None:
            tally, left, self.left = self.tally.dump(), self.left, 0
            data["loadtest"] = {"tally": tally, "left": left, "cores": self.cores, "began": self.began}
            self.tally.clear()

    def _take(self, client_id: str, data: dict[str, Any]) -> None:
        del client_id
        report = data.get("loadtest")
        if report is None or self.plan is None:
            return
        self.tally.add(report["tally"])
        self.left += report["left"]
        if report["began"]:
            self._start(min(self.began or report["began"], report["began"]))
        self.cores = max(self.cores, report["cores"])

    # -- during and after ----------------------------------------------------------------------------------------

    def _write_progress(self) -> None:
        while True:
            gevent.sleep(1.0)
            self._write(PROGRESS_FILE, self.progress())

    def progress(self) -> Progress:
        """Give how far the run is."""
        at = time.monotonic() - self.began_monotonic
        name, offset = "waiting for the last clients", 0.0
        for step in self.required_plan().steps:
            if offset <= at < offset + step.seconds:
                name = step.name
            offset += step.seconds
        stages = self.tally.stages
        judged = {
            of: durations
            for of, durations in self.tally.requests.items()
            if not of[2].endswith(("/events", "/extract-features"))
        }
        slow = sum(
            count
            for durations in judged.values()
            for duration, count in durations.items()
            if float(duration) > SLOW_MILLISECONDS
        )
        return Progress(
            at=at,
            stage=name,
            arrivals=sum(stage.arrivals for stage in stages),
            ended=sum(stage.completed + stage.failed for stage in stages),
            failed=sum(stage.failed for stage in stages),
            requests=sum(durations.total() for durations in self.tally.requests.values()),
            slow_requests=slow,
        )

    def _finish(self, environment: Environment, **_: Any) -> None:
        workers = self.plan.options.generators if isinstance(environment.runner, MasterRunner) and self.plan else 1
        self._write(TALLY_FILE, Outcome(self.began or time.time(), time.time(), workers, self.cores, self.tally.dump()))

    def _write(self, name: str, record: msgspec.Struct) -> None:
        if self._folder is not None:
            unfinished = self._folder / f".{name}"
            unfinished.write_bytes(msgspec.json.encode(record))
            unfinished.replace(self._folder / name)


def _prepare(connection: Connection, endpoint: str, path: str, body: bytes, content_type: str) -> Answer:
    sent = {"Content-Type": content_type}
    return connection.send(0, "POST", endpoint, path, due=time.monotonic(), expected=TAKEN, body=body, headers=sent)


def _said(answer: Answer) -> str:
    words = " ".join(answer.body[:300].decode(errors="replace").split())
    return f"answered {answer.status}: {words}" if answer.status else "not answered"


class Generator:
    """Sends one process's share of the arrivals."""

    def __init__(self, state: State, environment: Environment, host: str, api_key: str, share: int) -> None:
        plan = state.required_plan()
        if share >= plan.options.generators:
            raise BadInput(f"--generators {plan.options.generators}: there are more workers than that")
        self._state = state
        self._hooks: Any = environment.events
        self._plan = plan
        self._share = share
        self._clients = Group()
        data, shares = plan.scenario.data, plan.options.generators
        self._world = World(
            connection=Connection(host, api_key, self._finished),
            pool=Pool(plan.datasets, data, plan.scenario.repeat_share, share=share, shares=shares),
            run_id=plan.options.run_id,
            upload=table(data.rows, data.seed),
            chance=random.Random(plan.options.seed + share),  # noqa: S311 - choices of clients are no secret
            ledger=state.tally.ledger,
        )
        self._world.ended.extend(state.find_ended(host, api_key))

    def run(self) -> None:
        """Start every client when it is due, and wait until the last has left."""
        options, weights = self._plan.options, self._plan.scenario.mix.weights()
        watching = cast("Any", gevent).spawn(self._watch)
        began = self._state.start()
        kinds = random.Random(options.seed + self._share)  # noqa: S311 - likewise
        try:
            for arrival in arrivals(self._plan.steps, options.seed, self._share, options.generators):
                due = began + arrival.at
                gevent.sleep(max(0.0, due - time.monotonic()))
                if self._state.enough or self._state.stopping:
                    break
                [kind] = kinds.choices(list(weights), list(weights.values()))
                self._stage(arrival).arrivals += 1
                self._clients.spawn(self._visit, arrival, kind, due, began)
            self._clients.join(DRAIN_TIMEOUT_SECONDS)
        finally:
            self._clients.kill()  # each notes what it was promised, or may have been
            watching.kill()
        self._state.left += 1
        gevent.sleep(DRAIN_TIMEOUT_SECONDS)  # Locust ends this; a task that returned would be started again

    def _visit(self, arrival: Arrival, kind: str, due: float, began: float) -> None:
        self._stage(arrival).started += 1
        self._stage(arrival).lags[round((time.monotonic() - due) * 1000)] += 1
        try:
            KINDS[kind](Visit(self._world, arrival.number, arrival.stage, due))
        except (Failed, BadInput) as error:
            self._fail(arrival, f"{kind}: {error}")
        except gevent.GreenletExit:
            self._fail(arrival, f"{kind}: had not left when the run was over")
            raise
        except Exception as error:  # noqa: BLE001 - an answer of an unknown form is a failed client, not a missing one
            self._fail(arrival, f"{kind}: {type(error).__name__}")
        else:
            self._stage(arrival).completed += 1
        now = time.monotonic()
        self._stage(arrival).visits.append((now - began, now - due))

    def _fail(self, arrival: Arrival, sentence: str) -> None:
        self._stage(arrival).failed += 1
        self._state.tally.fail(sentence)

    def _stage(self, arrival: Arrival) -> StageTally:
        return self._state.tally.stages[arrival.stage]

    def _finished(self, finished: Finished) -> None:
        self._state.tally.record(finished)
        stage = self._plan.steps[finished.stage].name
        self._hooks.request.fire(
            request_type=finished.method,
            name=f"{finished.endpoint} [{stage}]",
            response_time=finished.milliseconds,
            response_length=finished.size,
            exception=None if finished.failure is None else Failed(finished.failure),
            context={"endpoint": finished.endpoint, "stage": stage, "answered": finished.status != NO_ANSWER},
        )

    def _watch(self) -> None:
        """Keep the CPU use of this process over its busiest seconds, and look whether the run is to end early."""
        samples = [(time.monotonic(), time.process_time())]
        while True:
            gevent.sleep(1.0)
            self._state.enough = self._state.stop_file is not None and self._state.stop_file.exists()
            samples = [*samples[-CPU_WINDOW_SECONDS:], (time.monotonic(), time.process_time())]
            (first, used_first), (last, used_last) = samples[0], samples[-1]
            self._state.cores = max(self._state.cores, (used_last - used_first) / (last - first))
