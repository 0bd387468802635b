"""The command line as its user meets it: real processes, real exit statuses."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tools.testbed.api_client import Client

ROWS = "city,visits,seen_on\n" + "".join(f"town-{i % 7},{i * 3 % 41},2026-01-{i % 28 + 1:02d}\n" for i in range(300))

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def environment(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment whose commands share one database and one data folder."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    return {
        **kept,
        "DATA_DIR": str(tmp_path_factory.mktemp("cli")),
        "DATABASE_URL": new_database(),
        "COLUMNS": "200",
        "PYTHONPATH": str(Path.cwd()),
    }


@pytest.fixture(scope="module")
def run(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs one command to its end."""
    folder = tmp_path_factory.mktemp("cwd")

    def call(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "service", *arguments],
            env={**environment, **extra},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    return call


def test_help_lists_every_command(run: Run) -> None:
    """`--help` names the commands and costs no heavy import."""
    result = run("--help")

    assert result.returncode == 0
    for command in ("serve", "migrate", "demo", "doctor", "datasets", "keys", "token"):
        assert command in result.stdout


@pytest.mark.parametrize(
    ("arguments", "extra", "words"),
    [
        (["fly"], {}, "fly"),
        (["serve"], {"ENVIRONMENT": "production"}, "JWT_SECRET"),
        (["serve"], {"PORT": "many"}, "PORT"),
        (["serve"], {"DATABASE_URL": "mysql://u:hunter2@db/x"}, "DATABASE_URL"),
        (["serve"], {"PRIMARY_MODEL": "nowhere:model"}, "nowhere"),
        (["serve"], {"FALLBACK_MODEL": "anthropic:claude"}, "run `export ANTHROPIC_API_KEY=…`"),
        (["worker"], {"PRIMARY_MODEL": "groq:llama"}, "run `pip install 'pydantic-ai-slim[groq]'`"),
        (["datasets", "add", "missing.csv"], {}, "missing.csv"),
        (["datasets", "show", "../etc"], {}, "../etc"),
        (["keys", "create"], {}, "--name"),
        (["keys", "create", "--name", "x", "--scope", "everything"], {}, "everything"),
        (["keys", "revoke", "000000000000"], {}, "000000000000"),
        (["token"], {"FEATURE_AGENT_KEY": "fa_nonsense"}, "key"),
    ],
)
def test_bad_input_is_one_line_and_status_2(run: Run, arguments: list[str], extra: dict[str, str], words: str) -> None:
    """What was wrong is said in one line on stderr; nothing secret is in it."""
    result = run(*arguments, **extra)

    assert result.returncode == 2, result
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("feature-agent: ")
    assert words in result.stderr
    assert "hunter2" not in result.stderr


def test_keys_are_created_listed_and_revoked(run: Run) -> None:
    """The secret is shown once; the list never has it; a revoked key gives no token."""
    created = json.loads(run("keys", "create", "--name", "team", "--scope", "datasets:read", "--json").stdout)
    listed = run("keys", "list", "--json").stdout
    token = json.loads(run("token", "--json", FEATURE_AGENT_KEY=created["key"]).stdout)

    assert set(created) == {"id", "name", "key", "scopes", "expires_at"}
    assert created["scopes"] == ["datasets:read"]
    assert created["id"] in listed
    assert created["key"] not in listed
    assert token["scope"] == "datasets:read"
    assert run("keys", "revoke", created["id"]).returncode == 0
    assert run("token", FEATURE_AGENT_KEY=created["key"]).returncode == 2
    table = run("keys", "list").stdout
    assert created["id"] in table


def test_a_key_may_expire(run: Run) -> None:
    """`--expires-in-days` is written into the key."""
    created = json.loads(run("keys", "create", "--name", "guest", "--expires-in-days", "3", "--json").stdout)

    assert created["expires_at"] is not None
    assert run("keys", "create", "--name", "guest").stdout.startswith("fa_")


def test_datasets_are_added_listed_and_shown(run: Run, tmp_path: Path) -> None:
    """A file becomes a dataset with a profile, for people and for machines."""
    file = tmp_path / "visits.csv"
    file.write_text(ROWS)

    added = run("datasets", "add", str(file))
    again = run("datasets", "add", str(file))
    other = json.loads(run("datasets", "add", str(file), "--id", "visits-2", "--json").stdout)

    assert added.returncode == 0, added.stderr
    assert "visits" in added.stdout
    assert again.returncode == 1
    assert "already" in again.stderr
    assert other["id"] == "visits-2"
    assert {item["dataset_id"] for item in json.loads(run("datasets", "list", "--json").stdout)} == {
        "visits",
        "visits-2",
    }
    assert "visits-2" in run("datasets", "list").stdout
    assert json.loads(run("datasets", "show", "visits", "--json").stdout)["profile"]["row_count"] == 300
    assert "seen_on" in run("datasets", "show", "visits").stdout


def test_a_file_replaces_a_dataset_when_asked(run: Run, tmp_path: Path) -> None:
    """The refusal says how; the next version is listed and shown with its number."""
    file = tmp_path / "orders.csv"
    file.write_text("a,b\n1,2\n")
    assert run("datasets", "add", str(file)).returncode == 0
    file.write_text("a,b\n1,2\n3,4\n")

    refused = run("datasets", "add", str(file))
    replaced = json.loads(run("datasets", "add", str(file), "--replace", "--json").stdout)

    assert (refused.returncode, "--replace" in refused.stderr) == (1, True)
    assert (replaced["version"], replaced["profile"]["row_count"]) == (2, 2)
    listed = {item["dataset_id"]: item["version"] for item in json.loads(run("datasets", "list", "--json").stdout)}
    assert listed["orders"] == 2
    assert "version 2" in run("datasets", "show", "orders").stdout


def test_an_unreadable_file_says_where(run: Run, tmp_path: Path) -> None:
    """A ragged file is refused with its line, and an unknown ending with the known ones."""
    ragged, picture = tmp_path / "ragged.csv", tmp_path / "photo.png"
    ragged.write_text("a,b\n1,2\n3,4,5\n")
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")

    assert "row 3" in run("datasets", "add", str(ragged)).stderr
    assert ".parquet" in run("datasets", "add", str(picture)).stderr


def test_migrate_prints_the_revision(run: Run) -> None:
    """`migrate` may be run again and says where the database stands."""
    first, second = run("migrate", "--json"), run("migrate")

    assert json.loads(first.stdout)["revision"] in second.stdout


def test_doctor_finds_nothing_wrong_and_names_what_is(run: Run) -> None:
    """A sound environment is all ok; a taken port, a dead Redis and an unknown model fail with what to do."""
    well = run("doctor", "--json", PORT="0", PROMETHEUS_PORT="0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ill = run(
            "doctor",
            "--json",
            PORT=port,
            PROMETHEUS_PORT="0",
            REDIS_URL="redis://127.0.0.1:1/0",
            PRIMARY_MODEL="nowhere:model",
            JAEGER_ENABLED="true",
            JAEGER_ENDPOINT="http://127.0.0.1:1",
        )

    assert well.returncode == 0, well
    assert {check["status"] for check in json.loads(well.stdout)} == {"ok"}
    assert ill.returncode == 1
    found = {check["name"]: check for check in json.loads(ill.stdout)}
    assert {name for name, check in found.items() if check["status"] == "failed"} == {"PORT", "Redis", "model"}
    assert found["traces"]["status"] == "warning"
    assert all(check["fix"] for check in found.values() if check["status"] != "ok")
    assert "how to fix it" in run("doctor", PORT="0", PROMETHEUS_PORT="0").stdout


@pytest.fixture
def served(environment: dict[str, str], tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """A `serve` process with its address and its own standard output so far."""
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "serve"],
        env={**environment, "PORT": "0", "PROMETHEUS_PORT": "0"},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    said = ""
    address = ""
    deadline = time.monotonic() + 60
    while "listening" not in said and time.monotonic() < deadline:
        line = process.stdout.readline()
        said += line
        if line.startswith("{") and "address" in json.loads(line):
            address = json.loads(line)["address"]
    yield process, address, said
    if process.poll() is None:
        process.kill()
    process.communicate()


def test_serve_prints_its_address_and_ends_well(
    served: tuple[subprocess.Popen[str], str, str], environment: dict[str, str]
) -> None:
    """It says where it listens and where the key is, keeps the key private, serves, and ends on SIGTERM with 0."""
    process, address, said = served
    key_file = Path(environment["DATA_DIR"]) / "development.key"

    assert str(key_file) in said
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    key = key_file.read_text().strip()
    assert Client(address, key).get("/api/v1/datasets").status == 200
    with urllib.request.urlopen(f"{address}/health/live") as live:  # noqa: S310 - our own server
        assert live.status == 200
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0


def test_serve_stopped_while_it_starts_leaves_no_database_behind(tmp_path: Path) -> None:
    """SIGTERM as soon as the embedded database runs: the process ends well and the database with it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "serve"],
        env={**os.environ, "DATA_DIR": str(tmp_path), "PORT": "0", "PROMETHEUS_PORT": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob("postmaster.pid")) and time.monotonic() < deadline:
        time.sleep(0.01)

    process.send_signal(signal.SIGTERM)

    assert process.wait(timeout=30) == 0
    assert list(tmp_path.rglob("postmaster.pid")) == []


def test_serve_on_a_taken_port_says_so(run: Run) -> None:
    """Two servers on one port: the second ends with one line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = run("serve", PORT=port, PROMETHEUS_PORT="0")

    assert result.returncode in {1, 2}
    assert port in result.stderr
    assert "Traceback" not in result.stderr
