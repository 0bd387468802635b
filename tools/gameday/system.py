"""The system under test: an API process, a worker process, PostgreSQL, Redis, a model provider, and its users."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tools.gameday.monitoring import ROOT, free_port
from tools.testbed.api_client import Client
from tools.testbed.model_server import STEP_SECONDS, ModelServerProcess
from tools.testbed.postgres import PostgresProcess
from tools.testbed.redis import RedisProcess

START_TIMEOUT_SECONDS = 90.0
MODEL = "openai-chat:good"
CSV = ("user_id,price,event\n" + "".join(f"u{n % 40:03d},{n * 7 % 97}.5,click\n" for n in range(400))).encode()
INHERITED = {"PATH", "HOME", "LANG"}


class ServiceProcess:
    """One process of the service, which can be restarted at its ports."""

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str], folder: Path) -> None:
        self.metrics_port, self.port = free_port(), free_port()
        self._name, self._command, self._log = name, command, folder / f"{name}.log"
        self._environment = {
            **{key: value for key, value in os.environ.items() if key in INHERITED},
            "PYTHONPATH": str(ROOT),
            "PORT": str(self.port),
            "PROMETHEUS_PORT": str(self.metrics_port),
            **environment,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *prefix: str) -> None:
        """Start it and wait until it is ready; `prefix` is a command to run it under. Raises RuntimeError."""
        with self._log.open("a") as log:
            command = [*prefix, sys.executable, *self._command]
            self.process = subprocess.Popen(
                command, cwd=self._log.parent, env=self._environment, stdout=log, stderr=subprocess.STDOUT
            )
        port = self.port if self._name == "api" else self.metrics_port
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready") as found:
                if found.status == 200:
                    return
            time.sleep(0.1)
        raise RuntimeError(f"{self._name} did not start: {self._log.read_text()[-2000:]}")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> None:
        """Stop it with SIGTERM and wait; kill it after 30 s."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def kill(self) -> None:
        """Kill it, as a crash would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()


class Users:
    """Send traffic to the API from several kinds of users, each at its own rate in requests a second."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.rates: dict[str, float] = {"read": 4.0, "extract": 1.0, "unauthenticated": 0.0, "flood": 0.0}
        self.dataset = "events"
        self.repeat = False
        """Whether extractions repeat one request, each on a copy of the data."""
        self._count = itertools.count()
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(64)

    def _read(self) -> None:
        self.client.get("/api/v1/datasets")

    def _extract(self) -> None:
        dataset = self._copy() if self.repeat else self.dataset
        self.client.extract(dataset, self._sentence(), quality_threshold="low")

    def _copy(self) -> str:
        """Upload the same data under another name, so that the plan is cached and the result is not."""
        dataset = f"copy-{next(self._count)}"
        self.client.upload(dataset, CSV)
        return dataset

    def _flood(self) -> None:
        body = {"dataset_id": self.dataset, "feature_description": self._sentence(), "quality_threshold": "low"}
        self.client.post_json("/api/v1/extract-features", body, Prefer="respond-async")

    def _unauthenticated(self) -> None:
        Client(self.client.url, f"fak_{next(self._count)}").get("/api/v1/datasets")

    def _sentence(self) -> str:
        return "Average price for each user" if self.repeat else f"Average price for each user, {next(self._count)}"

    @contextmanager
    def busy(self) -> Generator[None]:
        """Send traffic for the length of the block."""
        kinds: dict[str, Callable[[], None]] = {
            "read": self._read, "extract": self._extract, "flood": self._flood,
            "unauthenticated": self._unauthenticated,
        }  # fmt: skip
        threads = [
            threading.Thread(target=self._keep_sending, args=(kind, send), daemon=True) for kind, send in kinds.items()
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()
            self._pool.shutdown(cancel_futures=True)

    def _keep_sending(self, kind: str, send: Callable[[], None]) -> None:
        while not self._over.is_set():
            rate = self.rates[kind]
            if rate:
                self._pool.submit(_ignore_failure, send)
            self._over.wait(1 / rate if rate else 0.2)


def _ignore_failure(send: Callable[[], None]) -> None:
    """Send a request and ignore its failure, as a user who tries again later."""
    with contextlib.suppress(OSError, ValueError, EOFError):
        send()


class System:
    """The running processes, and what a fault may do to them."""

    def __init__(self, folder: Path, environment: Mapping[str, str], stack: ExitStack) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.data.mkdir()
        self.postgres = PostgresProcess(folder / "pg")
        stack.callback(self.postgres.stop)
        self.redis = RedisProcess(folder)
        stack.callback(self.redis.kill)
        self.provider = stack.enter_context(ModelServerProcess("tools.gameday.provider"))
        self.environment = {
            "ENVIRONMENT": "test",
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": self.redis.url,
            "DATA_DIR": str(self.data),
            "PRIMARY_MODEL": MODEL,
            "OPENAI_BASE_URL": self.provider.url,
            "OPENAI_API_KEY": "none",
            "WORKER_IN_API": "false",
            "RATE_LIMIT_PER_MINUTE": "100000",
            "MAX_WAITING_PER_PRINCIPAL": "0",
            "SYNC_WAIT_SECONDS": "3",
            "PLAN_CACHE_SECONDS": "0",
            **environment,
        }
        self.api = ServiceProcess("api", ["-m", "service", "serve", "--json"], self.environment, folder)
        worker = ["-m", "tools.testbed.faulty_worker"]
        self.worker = ServiceProcess("worker", worker, {**self.environment, "GATE": str(folder / "gate")}, folder)
        for service in (self.api, self.worker):
            stack.callback(service.stop)
            service.start()
        self.users = Users(Client(f"http://127.0.0.1:{self.api.port}", self.key))
        for dataset in ("events", "poison"):
            answer = self.users.client.upload(dataset, CSV)
            assert answer.status == 201, answer.body

    @property
    def key(self) -> str:
        """Return the development key."""
        return (self.data / "development.key").read_text().strip()

    @property
    def targets(self) -> dict[str, int]:
        """Return the metrics port of each Prometheus job."""
        return {"feature-agent": self.api.metrics_port, "feature-agent-worker": self.worker.metrics_port}

    def set_model_behaviour(self, scenario: str) -> None:
        """Have the model behave as the scenario of that name."""
        self.provider.assign("good", scenario)

    def run_command(self, *arguments: str) -> None:
        """Run `feature-agent` as an operator would. Raises CalledProcessError."""
        environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **self.environment}
        subprocess.run(
            [sys.executable, "-m", "service", *arguments],
            cwd=ROOT, env=environment, check=True, capture_output=True, timeout=STEP_SECONDS * 4,
        )  # fmt: skip


@contextmanager
def running_system(folder: Path, environment: Mapping[str, str]) -> Generator[System]:
    """Run the system for the length of the block, with these settings."""
    with ExitStack() as stack:
        yield System(folder, environment, stack)
