"""Runs in all their forms: several generators, a model's stand-in, a service that breaks, and Locust by itself."""

from __future__ import annotations

import http.server
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from loadtest.local import free_port
from loadtest.measure.selector import Selector, parse_exposition
from loadtest.measure.watch import fetch
from loadtest.model_stub.process import running_stub
from loadtest.traffic.arrivals import arrivals
from loadtest.traffic.shapes import steps_of
from tests.loadtest.stand import ROOT, SCENARIO, Standing, loadtest, service, slo_file

pytestmark = [pytest.mark.xdist_group("loadtest"), pytest.mark.timeout(240)]

COMPOSE_DEFAULT = re.compile(r"\$\{\w+:-([^}]*)\}")
REQUESTS = "locust_requests_total"
MODEL = "openai-chat:stub"


@pytest.fixture(scope="module")
def standing(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    """A healthy service."""
    with service(tmp_path_factory.mktemp("service"), new_database()) as standing:
        yield standing


def run(standing: Standing, folder: Path, *arguments: str, scenario: str = SCENARIO) -> Any:
    """Send load and give run.json."""
    folder.mkdir(exist_ok=True)
    (folder / "scenario.yaml").write_text(scenario)
    common = ["run", "--host", standing.host, "--out", "out", "--scenario", "scenario.yaml"]
    slo = ["--slo", str(slo_file(folder))]
    done = loadtest(*common, *slo, *arguments, cwd=folder, FEATURE_AGENT_KEY=standing.key)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "out" / "run.json").read_text())


def seen(run: Any) -> int:
    """Requests that clients counted."""
    return sum(one["count"] for stage in run["stages"] for one in stage["requests"])


@pytest.mark.proof
def test_several_generators_are_one_load(tmp_path: Path, standing: Standing) -> None:
    """Two generators send exactly the arrivals of one, lose no count, and run beside another pair on one machine."""
    short = ("--rate", "8", "--stage-seconds", "5", "--warm-up-seconds", "2", "--seed", "3")
    expected = [0, 0]
    for arrival in arrivals(steps_of("smoke", 8, 5, 2), 3):
        expected[arrival.stage] += 1
    found: dict[int, Any] = {}

    def carry_out(generators: int, name: str) -> None:
        found[len(found)] = run(standing, tmp_path / name, *short, "--generators", str(generators))

    carry_out(1, "one")
    carry_out(2, "two")
    for one, workers in zip(found.values(), (1, 2), strict=True):
        assert [stage["arrivals"] for stage in one["stages"]] == expected
        assert all(stage["started"] == stage["arrivals"] for stage in one["stages"])
        assert all(stage["completed"] + stage["failed"] == stage["arrivals"] for stage in one["stages"])
        assert seen(one) == sum(one["service"]["requests"].values())
        assert one["extractions"]["lost"] == one["extractions"]["doubled"] == []
        assert one["workers"] == workers
        assert one["stages"][0]["began"] == one["began"]


@pytest.mark.proof
def test_a_service_plans_by_the_stand_in(tmp_path: Path, new_database: Callable[[], str]) -> None:
    """A service whose model is the stand-in takes its plans: its metrics count that model's answers, and no failure."""
    latency = tmp_path / "quick.json"
    latency.write_text(json.dumps({"source": "for tests", "quantiles": [[0, 0.01], [1, 0.05]]}))
    asking = (
        "rate: 8\nmix: {extract_and_wait: 1, list_extractions: 1}\nrepeat_share: 0\ndata: {datasets: 1, rows: 50}\n"
    )
    with running_stub(str(latency)) as settings, service(tmp_path, new_database(), **settings) as standing:
        found = run(standing, tmp_path, "--stage-seconds", "3", "--warm-up-seconds", "1", scenario=asking)
        metrics = fetch(f"{standing.host}/metrics")
        recorded = tmp_path / "recorded.json"
        record = ("record", "--metrics", f"{standing.host}/metrics", "--model", MODEL, "--out", str(recorded))
        command = [sys.executable, "-m", "loadtest.model_stub", *record]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert found["extractions"]["completed"] == found["extractions"]["accepted"] > 0
    counted = parse_exposition(metrics, ["model_requests_total"])
    answers = Selector("model_requests_total").total(counted, model=MODEL, status="success")
    assert answers >= found["extractions"]["completed"]
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(recorded.read_text())["quantiles"][-1][0] == 1


# -- a service that breaks ---------------------------------------------------------------------------------------


@contextmanager
def slow_service(seconds: float) -> Iterator[str]:
    """Something that looks like the service, and answers one request at a time after a while."""
    turn, counts = threading.Lock(), {"GET": 0}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            with suppress(ConnectionError):  # the client may have left
                self.end_headers()
                self.wfile.write(body)

        def do_GET(self) -> None:
            if self.path == "/metrics":
                series = '{endpoint="/api/v1/extractions",method="GET",status="200"}'
                self._answer(200, f"api_requests_total{series} {counts['GET']}\n".encode())
                return
            with turn:
                time.sleep(seconds)
                counts["GET"] += 1
            self._answer(200, b'{"data": {"items": [], "next_cursor": null}}')

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            if self.path.startswith("/api/v1/extract-features"):
                self._answer(200, b'{"data": {"extraction_id": "first", "status": "completed"}}')
            else:
                self._answer(201, b"{}")

        def do_DELETE(self) -> None:
            self._answer(204, b"")

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.proof
def test_a_breakpoint_ends_when_the_service_breaks(tmp_path: Path) -> None:
    """A breakpoint run against a service that takes 10 requests a second ends at its limit, early, and says why."""
    scenario = "rate: 10\nmix: {list_extractions: 1}\ndata: {datasets: 1, rows: 10}\n"
    (tmp_path / "scenario.yaml").write_text(scenario)
    began = time.monotonic()
    with slow_service(0.1) as host:
        done = loadtest(
            *("run", "--shape", "breakpoint", "--host", host, "--key", "k", "--out", "out", "--stage-seconds", "12"),
            *("--scenario", "scenario.yaml", "--warm-up-seconds", "0"),
            cwd=tmp_path,
        )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "run.json").read_text())
    assert re.match(r"in step-0[4-8] \d+ ", found["stopped_early"])
    assert f"ending the run: {found['stopped_early']}" in done.stderr
    assert time.monotonic() - began < 100
    assert len(found["stages"]) < 5


# -- Locust by itself --------------------------------------------------------------------------------------------


def locust(arguments: list[str], environment: dict[str, str], **options: Any) -> subprocess.Popen[str]:
    """Start Locust."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return subprocess.Popen(
        [sys.executable, "-m", "locust", *arguments],
        env={**kept, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def compose_command(host: str) -> list[str]:
    """Give what compose.yaml runs, for another host."""
    text = COMPOSE_DEFAULT.sub(r"\1", (ROOT / "compose.yaml").read_text())
    command: list[str] = yaml.safe_load(text)["services"]["locust"]["command"]
    return [host if argument == "http://api:8000" else argument for argument in command]


def test_compose_runs_it(tmp_path: Path, standing: Standing) -> None:
    """Locust as compose.yaml starts it runs to its end with status 0, and its metrics name routes and stages."""
    port = free_port()
    (tmp_path / "key").write_text(standing.key)
    environment = {"FEATURE_AGENT_KEY_FILE": str(tmp_path / "key"), "LOCUST_METRICS_PORT": str(port)}
    short = ["--stage-seconds", "4", "--warm-up-seconds", "2", "--only-summary"]
    command = ["-f", "loadtest/locustfile.py", *compose_command(standing.host), *short]
    text = ""
    with locust(command, environment, cwd=ROOT) as process:
        while process.poll() is None:
            with suppress(OSError):
                text = fetch(f"http://127.0.0.1:{port}/metrics")
            time.sleep(0.2)
        said = process.stderr.read() if process.stderr else ""
    assert process.returncode == 0, said
    values = parse_exposition(text, [REQUESTS, "locust_request_duration_seconds"])
    ended = [dict(series.labels) for series, value in values.items() if series.name == REQUESTS and value > 0]
    assert {labels["stage"] for labels in ended} == {"warm-up", "smoke"}
    assert {labels["outcome"] for labels in ended} == {"success"}
    assert all(labels["name"].startswith("/api/v1/") or labels["name"] == "unmatched" for labels in ended)
    assert {labels["method"] for labels in ended} >= {"GET", "POST"}
    durations = Selector("locust_request_duration_seconds").total(values, "_count")
    assert durations == Selector(REQUESTS).total(values)


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--shape", "cliff"], {"FEATURE_AGENT_KEY": "k"}, "cliff"),
        (["--rate", "0"], {"FEATURE_AGENT_KEY": "k"}, "--rate 0.0: clients arrive"),
        ([], {}, "no API key"),
        ([], {"FEATURE_AGENT_KEY": "k"}, "uploading the data pool was not answered"),
        (["--scenario", "/no/such.yaml"], {"FEATURE_AGENT_KEY": "k"}, "--scenario /no/such.yaml: cannot be read"),
    ],
)
def test_locust_with_bad_input(arguments: list[str], environment: dict[str, str], said: str) -> None:
    """Locust by itself ends with status 2 and a last line that says what is wrong."""
    command = ["-f", "loadtest/locustfile.py", "--host", "http://127.0.0.1:1", "--headless", *arguments]
    with locust(command, {"LOCUST_METRICS_PORT": "0", **environment}, cwd=ROOT) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2, errors
    assert said in errors.strip().splitlines()[-1]


def test_the_image_has_all_that_it_needs(tmp_path: Path) -> None:
    """With the files that the image's Dockerfile copies, and no others, Locust lists its options and the gate runs."""
    ignored = (ROOT / "loadtest/Dockerfile.dockerignore").read_text().split()
    copied = re.findall(r"^COPY (\S+) /opt/load/(\S*)", (ROOT / "loadtest/Dockerfile").read_text(), re.MULTILINE)
    for source, target in copied:
        assert f"!{source}" in ignored
        place = tmp_path / target / (Path(source).name if target.endswith("/") else "")
        place.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-r", str(ROOT / source), str(place)], check=True)
    for pattern in ("loadtest/benchmarks", "loadtest/Dockerfile*"):
        assert pattern in ignored
        subprocess.run(["rm", "-r", *map(str, tmp_path.glob(pattern))], check=True)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), "HOME": str(tmp_path)}
    for command in (["locust", "-f", "loadtest/locustfile.py", "--help"], ["loadtest", "gate", "--schema"]):
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    slo = "from loadtest.measure.indicators import load_slos; print(len(load_slos()))"
    done = subprocess.run([sys.executable, "-c", slo], cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert int(done.stdout) > 0
