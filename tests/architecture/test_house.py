"""Promises of the house that no single room can keep."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.api.problems import PROBLEMS
from service.features.errors import FeatureAgentError

ROOT = Path(__file__).parents[2]
HEAVY = {"litestar", "pydantic_ai", "duckdb", "sqlalchemy", "sqlglot", "rich"}
SDKS = {
    "openai", "anthropic", "google.genai", "groq", "mistralai", "cohere", "boto3", "huggingface_hub", "xai_sdk",
    "logfire", "tiktoken",
}  # fmt: skip
"""Packages that providers' models need."""


def error_types(root: type[FeatureAgentError] = FeatureAgentError) -> Iterator[type[FeatureAgentError]]:
    """Every error of the domain."""
    for child in root.__subclasses__():
        yield child
        yield from error_types(child)


@pytest.mark.parametrize("lock", sorted((ROOT / "requirements").glob("*.lock")), ids=lambda path: path.name)
def test_locks_are_hashed_and_name_no_index(lock: Path) -> None:
    """Every pinned package has hashes, and no address is in the file: it installs from whatever index is configured."""
    text = lock.read_text()
    pins = re.findall(r"^[a-z0-9][a-z0-9._-]*(?:\[[a-z,-]+\])?==\S+.*?(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)

    assert pins
    assert all("--hash=sha256:" in pin for pin in pins)
    assert "://" not in text


def test_help_imports_nothing_heavy() -> None:
    """`feature-agent --help` answers without the framework, the agent library, the engine or the database."""
    program = (
        "import sys; from service.__main__ import main; main(['--help']);"
        f"print(sorted({HEAVY | SDKS} & {{*sys.modules}}))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)

    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("model", "sdks"),
    [("builtin:planner", []), ("openai-chat:llama3", ["openai"]), ("anthropic:claude", ["anthropic"])],
)
def test_serve_imports_the_configured_sdk_alone(model: str, sdks: list[str], tmp_path: Path) -> None:
    """A process that is ready to serve has imported the SDK of the model that it is to ask, and no other."""
    program = (
        "import os, sys; from service.settings import load_settings; import service.commands.serving as serving;"
        "serving.open_runtime(load_settings());"
        f"print(sorted({SDKS} & {{*sys.modules}}), flush=True); os._exit(0)"
    )
    keys = {"OPENAI_API_KEY": "sk-1", "ANTHROPIC_API_KEY": "sk-2"}
    assert last_line(program, tmp_path, PRIMARY_MODEL=model, **keys) == str(sdks)


def test_an_api_without_a_worker_plans_and_computes_nothing(tmp_path: Path) -> None:
    """It has neither agent library nor engine nor migrations in memory, and asks for no model's key."""
    program = (
        "import os, sys; from service.settings import load_settings; import service.commands.serving as serving;"
        "from service.app import build_app; build_app(serving.open_runtime(load_settings()));"
        "print(sorted({'alembic', 'duckdb', 'pydantic_ai', 'sqlglot', *" + repr(sorted(SDKS)) + "} & {*sys.modules}),"
        "flush=True); os._exit(0)"
    )
    assert last_line(program, tmp_path, PRIMARY_MODEL="openai:gpt-5", WORKER_IN_API="false") == "[]"


def test_no_process_of_the_service_has_the_engine_in_memory(tmp_path: Path) -> None:
    """An API with a worker inside imports neither the engine nor its compiler: both are in processes of their own."""
    program = (
        "import os, sys; from service.settings import load_settings; import service.commands.serving as serving;"
        "from service.app import build_app; build_app(serving.open_runtime(load_settings()));"
        "print(sorted({'duckdb', 'sqlglot'} & {*sys.modules}), flush=True); os._exit(0)"
    )
    assert last_line(program, tmp_path) == "[]"


def last_line(program: str, folder: Path, **settings: str) -> str:
    """What a program says in the end that runs with those settings alone."""
    environment = {
        **{name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}},
        "DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/none", "DATA_DIR": str(folder),
        "PYTHONPATH": str(ROOT), "ENVIRONMENT": "test", "PROMETHEUS_PORT": "0", **settings,
    }  # fmt: skip
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=folder,
        env=environment,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()[-1]


def test_error_codes_are_one_to_an_error() -> None:
    """A client can branch on `error_code`: no two errors share one."""
    codes = [error.__dict__["code"] for error in error_types() if "code" in error.__dict__]

    assert len(codes) == len(set(codes))
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)


def test_every_error_has_its_problem_type() -> None:
    """No error of the domain reaches a client as an unexplained 500; the table agrees with its category."""
    errors = {error.code: error.category for error in error_types() if error is not FeatureAgentError}

    assert errors.keys() <= PROBLEMS.keys()
    assert {code: PROBLEMS[code].category for code in errors} == errors
