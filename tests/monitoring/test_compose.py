"""compose.yaml: valid for both of Compose's commands, bounded, watched, and closed to the outside."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from observability.source.dashboards import disk
from observability.stack import secret_files
from observability.stack.engine import NoEngine, Stack, compose
from observability.stack.first_requests import Service, warm_up
from service.commands.serving import SHUTDOWN_TIMEOUT_SECONDS
from service.settings import PRODUCTION_DRAIN_SECONDS, Settings
from tests.monitoring.stand import ROOT
from tests.support import LiveService

FILE = ROOT / "compose.yaml"
MIB = {"m": 1, "g": 1024}
MAX_MEMORY_MIB = 2252
EVERYTHING = {
    *("api", "worker", "postgres", "redis", "prometheus", "alertmanager", "grafana", "jaeger", "loki", "alloy"),
    *("redis-exporter", "postgres-exporter", "blackbox-exporter", "node-exporter", "locust"),
}
BUILT = {"api", "worker", "locust"}
DEFAULT = re.compile(r"\$\{\w+:-([^}]*)\}")


def document() -> dict[str, Any]:
    """The file with its merges carried out and its variables at their defaults."""
    return yaml.safe_load(DEFAULT.sub(r"\1", FILE.read_text()))


SERVICES: dict[str, dict[str, Any]] = document()["services"]


def test_everything_is_there() -> None:
    """The service, what it stands on, and what watches it; Locust only in its profile."""
    assert set(SERVICES) == EVERYTHING
    assert {name for name, one in SERVICES.items() if "profiles" in one} == {"locust"}
    assert SERVICES["locust"]["profiles"] == ["load"]


@pytest.mark.parametrize("name", sorted(EVERYTHING))
def test_every_container_is_watched_and_bounded(name: str) -> None:
    """Each has a health check, limits of memory, CPU and processes, no capability to spare, and a pinned image."""
    one = SERVICES[name]
    assert one["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    assert {"interval", "timeout", "retries"} <= one["healthcheck"].keys()
    assert one["mem_limit"]
    assert one["cpus"]
    assert one["pids_limit"]
    assert one["cap_drop"] == ["ALL"]
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in one
    tag = one["image"].rpartition(":")[2]
    assert tag == "local" if name in BUILT else re.search(r"\d+\.\d+\.\d+|\d+\.\d+-alpine", tag), one["image"]


def test_images_can_be_named_by_digest() -> None:
    """Every image is a variable's default, so that a company's registry or a digest can take its place."""
    images = re.findall(r"^ +image: (.*)$", FILE.read_text(), re.MULTILINE)
    assert len(images) >= len(EVERYTHING) - 1
    assert all(re.fullmatch(r"\$\{[A-Z_]+:-\S+\}", image) for image in images)


def test_memory_fits_a_small_machine() -> None:
    """All limits together, the load test's included, are at most 2.2 GiB."""
    total = sum(int(one["mem_limit"][:-1]) * MIB[one["mem_limit"][-1]] for one in SERVICES.values())
    assert total <= MAX_MEMORY_MIB


def test_every_store_has_its_room_measured() -> None:
    """node_exporter sees the volume of each store where the boards look for it, and may not write there."""
    mounted = dict(volume.removesuffix(":ro").split(":") for volume in SERVICES["node-exporter"]["volumes"])
    assert all(volume.endswith(":ro") for volume in SERVICES["node-exporter"]["volumes"])
    assert mounted == {
        "data": "/volumes/artifacts",
        "postgres": "/volumes/database",
        "prometheus": "/volumes/prometheus",
        "logs": "/volumes/loki",
        "traces": "/volumes/jaeger",
    }
    assert all(re.fullmatch(disk.VOLUMES.split('"')[1], path) for path in mounted.values())


def test_slow_statements_are_counted() -> None:
    """PostgreSQL loads the extension, a new database makes it, and the exporter asks for it."""
    postgres = SERVICES["postgres"]
    assert "shared_preload_libraries=pg_stat_statements" in postgres["command"]
    assert "./observability/postgres:/docker-entrypoint-initdb.d:ro" in postgres["volumes"]
    [script] = (ROOT / "observability/postgres").iterdir()
    assert script.read_text().rstrip().endswith("CREATE EXTENSION IF NOT EXISTS pg_stat_statements;")
    assert SERVICES["postgres-exporter"]["command"] == ["--collector.stat_statements"]


def test_containers_start_when_what_they_need_is_healthy() -> None:
    """Every dependency waits for health, names a container there is, and none goes in circles."""
    needs = {name: one.get("depends_on", {}) for name, one in SERVICES.items()}
    assert all(how == {"condition": "service_healthy"} for of in needs.values() for how in of.values())
    started: set[str] = set()
    while ready := {name for name, of in needs.items() if name not in started and set(of) <= started}:
        started |= ready
    assert started == EVERYTHING
    assert {"postgres", "redis"} <= needs["api"].keys()
    assert "api" in needs["worker"]


def test_nothing_listens_beyond_this_machine() -> None:
    """Ports are published on 127.0.0.1 alone; what publishes none has no way in, and databases have no way out."""
    published = {name: one["ports"] for name, one in SERVICES.items() if "ports" in one}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert document()["networks"]["inside"] == {"internal": True}
    assert all("inside" in one["networks"] for one in SERVICES.values())
    assert {name for name, one in SERVICES.items() if "edge" in one["networks"]} == {*published, "worker"}
    assert not {"postgres", "redis", "loki", "alloy"} & published.keys()


def test_no_secret_is_in_the_file() -> None:
    """Passwords and keys come from files; no variable that names one has a value of its own."""
    for name, one in SERVICES.items():
        for variable, value in one.get("environment", {}).items():
            if re.search("PASS|SECRET|KEY|TOKEN", variable):
                assert str(value).startswith("/run/secrets/"), f"{name}: {variable}"
    assert all(of["file"].startswith("./.secrets/") for of in document()["secrets"].values())
    assert ".secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    assert not any("docker.sock" in volume for one in SERVICES.values() for volume in one.get("volumes", ()))


def test_services_have_the_time_that_they_take_to_stop() -> None:
    """The engine kills neither API nor worker before it has drained, ended its requests and handed its jobs back."""
    for name in ("api", "worker"):
        environment = SERVICES[name]["environment"]
        grace = float(SERVICES[name].get("stop_grace_period", "10s").removesuffix("s"))
        drain = float(environment.get("DRAIN_SECONDS", PRODUCTION_DRAIN_SECONDS))
        jobs = Settings.model_fields["worker_grace_seconds"].default
        assert grace > drain + max(SHUTDOWN_TIMEOUT_SECONDS, jobs), name


def test_the_builder_can_mount_secrets(tmp_path: Path) -> None:
    """Compose 1 and older engines are asked for BuildKit: without it no Dockerfile here can be built."""
    asked = "import os; print(os.environ['DOCKER_BUILDKIT'], os.environ['COMPOSE_DOCKER_CLI_BUILD'])"
    assert Stack(tmp_path, (sys.executable, "-c", asked)).run(quiet=True) == "1 1\n"


def test_a_load_test_that_has_ended_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what the engine keeps running has to be healthy: Compose 1 lists an ended Locust as well."""
    state = {"Status": "running", "Health": {"Status": "healthy"}}
    containers = [
        {"Name": "/api_1", "State": state, "HostConfig": {"RestartPolicy": {"Name": "unless-stopped"}}},
        {"Name": "/locust_1", "State": {"Status": "exited"}, "HostConfig": {"RestartPolicy": {"Name": "no"}}},
    ]
    docker = tmp_path / "docker"
    docker.write_text(f"#!/bin/sh\necho '{json.dumps(containers)}'\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    assert Stack(tmp_path, ("echo",)).wait(0.0) == {}
    assert Stack(tmp_path, ("echo",)).states() == {"api_1": "healthy"}


def test_data_outlive_their_containers() -> None:
    """Everything that is written for good is in a named volume, each of which somebody uses."""
    used = {
        volume.partition(":")[0]
        for one in SERVICES.values()
        for volume in one.get("volumes", ())
        if not volume.startswith((".", "/"))
    }
    assert used == set(document()["volumes"])


def test_mounted_files_exist() -> None:
    """What is mounted from the repository is in it."""
    for one in SERVICES.values():
        for volume in one.get("volumes", ()):
            source = volume.partition(":")[0]
            if source.startswith("./") and not source.startswith("./.secrets"):
                assert (ROOT / source).exists(), source


@pytest.mark.parametrize("command", [("docker", "compose"), ("docker-compose",)], ids=" ".join)
def test_compose_takes_it(command: tuple[str, ...]) -> None:
    """Both of Compose's commands find the file valid, with the profile and without."""
    if (
        shutil.which(command[0]) is None
        or subprocess.run([*command, "version"], check=False, capture_output=True).returncode
    ):
        pytest.skip(f"there is no `{' '.join(command)}` on this machine")
    for profile in ((), ("--profile", "load")):
        checked = subprocess.run(
            [*command, *profile, "config", "-q"], cwd=ROOT, check=False, capture_output=True, text=True
        )
        assert checked.returncode == 0, checked.stderr


def test_secrets_are_made_once(tmp_path: Path) -> None:
    """Each is random, agrees with the others that hold the same password, is kept, and is behind a closed door."""
    folder = tmp_path / "secrets"
    secret_files.make(folder)
    first = {file: file.read_text().strip() for file in folder.rglob("*") if file.is_file()}
    secret_files.make(folder)
    assert {file: file.read_text().strip() for file in first} == first
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    named = {str(file.relative_to(folder)): content for file, content in first.items()}
    assert named["postgres_password"] in named["service/database_url"]
    assert named["service/redis_password"] in named["redis_conf"]
    assert json.loads(named["redis_exporter"]) == {"redis://redis:6379": named["service/redis_password"]}
    assert len({named["postgres_password"], named["service/redis_password"], named["grafana_password"]}) == 3
    mounted = {one["file"].removeprefix("./.secrets/") for one in document()["secrets"].values()}
    assert mounted <= named.keys()


def test_the_service_takes_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What compose.yaml tells the service is enough for production, read the way the container reads it."""
    secret_files.make(tmp_path / "secrets")
    environment = SERVICES["api"]["environment"]
    for name, value in environment.items():
        monkeypatch.setenv(name, str(value))
    settings = Settings(_env_file=None, _secrets_dir=tmp_path / "secrets/service")
    assert settings.environment == "production"
    assert settings.jwt_secret is not None
    assert settings.database_url is not None
    assert settings.redis_password is not None
    assert environment.keys() <= {name.upper() for name in Settings.model_fields} | {"SECRETS_DIR"}


def test_the_first_requests_are_answered(make_settings: Any) -> None:
    """What `make up` asks a new service for succeeds, but for the one question that has no answer."""
    with LiveService(make_settings()) as service:
        known = Service(service.url, service.key)
        assert known.knows_the_key()
        assert not Service(service.url, "not made yet").knows_the_key()
        assert warm_up(known) == [201, 200, 200, 200, 200, 404]


@pytest.mark.timeout(1200)
def test_make_up() -> None:
    """With a Docker engine and the images at hand: everything becomes healthy, answers, and is taken down again."""
    try:
        command = compose()
    except NoEngine as error:
        pytest.skip(str(error))
    missing = [one["image"] for name, one in SERVICES.items() if name not in BUILT and not _present(one["image"])]
    if missing:
        pytest.skip(f"images are not at hand: {', '.join(missing)}")
    stack = Stack(ROOT, command)
    try:
        subprocess.run(["make", "up"], cwd=ROOT, check=True, timeout=900)
        assert set(stack.states().values()) == {"healthy"}
        with urllib.request.urlopen("http://127.0.0.1:3000/api/health", timeout=10) as answer:
            assert json.load(answer)["database"] == "ok"
    finally:
        stack.run("down", "--volumes")


def _present(image: str) -> bool:
    return _run("docker", "image", "inspect", image).returncode == 0


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
