"""The load test as Locust runs it: clients arrive at the moments of an open model, whatever the service does.

    FEATURE_AGENT_KEY=… locust -f loadtest/locustfile.py --host http://127.0.0.1:8000 --headless --shape smoke

`python -m loadtest run` does this and measures the service at the same time. The API key is in FEATURE_AGENT_KEY or in
the file that FEATURE_AGENT_KEY_FILE names. On several machines: one master with `--generators N --master`, N workers
with `--worker --master-host …`; each sends its share of the same arrivals. The run's numbers are on LOCUST_METRICS_PORT
(9646; 0: nowhere) for the dashboard "Load test".
"""

from __future__ import annotations

import os
import signal
import sys
import uuid
from typing import Any, cast

import gevent
from locust import LoadTestShape, User, events, task
from locust.env import Environment
from locust.runners import WorkerRunner

from loadtest.errors import BadInput
from loadtest.exposition import PORT, serve
from loadtest.traffic.generator import Generator, State
from loadtest.traffic.key import key
from loadtest.traffic.plan import WARM_UP_SECONDS, Options, make_plan
from loadtest.traffic.scenario import DEFAULT
from loadtest.traffic.shapes import SHAPES

state = State()


def add_options(parser: Any, **_: Any) -> None:
    """Add the options of a run; a master hands them to its workers."""
    parser.add_argument("--shape", default="smoke", choices=list(SHAPES), help="how the arrival rate changes")
    parser.add_argument("--scenario", default=str(DEFAULT), help="YAML file that says which clients come")
    parser.add_argument("--rate", type=float, help="arrivals a second in place of the scenario's")
    parser.add_argument("--stage-seconds", type=float, help="length of a stage in place of the shape's own")
    parser.add_argument("--warm-up-seconds", type=float, default=WARM_UP_SECONDS, help="of a stage that is not judged")
    parser.add_argument("--seed", type=int, default=1, help="of the moments at which clients arrive")
    parser.add_argument("--generators", type=int, default=1, help="processes that share the arrivals")
    parser.add_argument("--run-id", default="", help="begins the ids of the datasets that the run makes")
    parser.add_argument("--out", default="", help="folder for the counts")


def prepare(environment: Environment, **_: Any) -> None:
    """Tell Prometheus of this run, and collect what its processes count."""
    port = int(os.environ.get("LOCUST_METRICS_PORT", str(PORT)))
    if port:
        serve(environment, port)
    state.collect(environment)
    gevent.signal_handler(signal.SIGTERM, state.stop)  # Locust's own handler comes after a run that follows a shape


def begin(environment: Environment, **_: Any) -> None:
    """Lay out the run and prepare its data, which one process does for all."""
    asked: Any = environment.parsed_options
    if not asked.run_id:
        asked.run_id = f"load-{uuid.uuid4().hex[:8]}"
    try:
        api_key = key()
        state.begin(environment, make_plan(_options(asked)), asked.out)
        if not isinstance(environment.runner, WorkerRunner):
            state.prepare_data(environment.host or "", api_key)
    except BadInput as error:
        sys.stderr.write(f"{error}\n")
        os._exit(2)  # Locust would go on without a plan


def _options(asked: Any) -> Options:
    return Options(
        shape=asked.shape,
        run_id=asked.run_id,
        scenario=asked.scenario,
        rate=asked.rate,
        stage_seconds=asked.stage_seconds,
        warm_up_seconds=asked.warm_up_seconds,
        seed=asked.seed,
        generators=asked.generators,
    )


hooks: Any = events
hooks.init_command_line_parser.add_listener(add_options)
hooks.init.add_listener(prepare)
hooks.test_start.add_listener(begin)


class UntilAllLeft(LoadTestShape):
    """Keeps one generator a process running until the last client of each has left."""

    def tick(self) -> tuple[int, float] | None:
        """Give Locust the number of generators, or None at the end."""
        if state.over():
            return None
        asked = state.options_of(self.runner)
        return asked.generators, float(asked.generators)


class Traffic(User):
    """The clients of one process: not one simulated person, but everybody who arrives."""

    @task
    def generate(self) -> None:
        """Send this process's share of the arrivals."""
        environment = cast("Any", self).environment
        runner: Any = environment.runner
        worker = isinstance(runner, WorkerRunner)
        share = int(getattr(runner, "worker_index", 0)) if worker else 0
        Generator(state, environment, self.host or "", key(), share).run()
