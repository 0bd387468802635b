from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

import pytest
from msgspec import Struct

ROOT = Path(__file__).parents[2]


class Instruction(Struct, frozen=True):
    """One instruction of a Dockerfile."""

    name: str
    value: str
    stage: int


def instructions() -> list[Instruction]:
    """The Dockerfile's instructions, continuation lines joined; stage 0 is what stands before the first FROM."""
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    found: list[Instruction] = []
    stage = 0
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if line.strip():
            name, _, value = line.strip().partition(" ")
            stage += name == "FROM"
            found.append(Instruction(name, " ".join(value.split()), stage))
    return found


def values(name: str, *, stage: int | None = None) -> list[str]:
    """The values of all instructions of that name."""
    return [found.value for found in instructions() if found.name == name and stage in {None, found.stage}]


def final() -> int:
    """Number of the last stage: the image."""
    return instructions()[-1].stage


def environment() -> dict[str, str]:
    """ENV of the image."""
    pairs = (pair for value in values("ENV", stage=final()) for pair in value.split(" "))
    return {name: text.strip('"') for name, _, text in (pair.partition("=") for pair in pairs)}


def ignored(path: str) -> bool:
    """Whether `.dockerignore` keeps the path from the builder: the last pattern that fits it or a folder above wins."""
    verdict = False
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        wanted = pattern.removeprefix("!")
        candidates = [path, *(str(parent) for parent in PurePosixPath(path).parents if str(parent) != ".")]
        if any(fits(candidate, wanted) for candidate in candidates):
            verdict = not pattern.startswith("!")
    return verdict


def fits(path: str, pattern: str) -> bool:
    """Whether a path fits a pattern of `.dockerignore`, in which `**/` stands for any folders or none."""
    parts = path.split("/")
    if pattern.startswith("**/"):
        return any(fits("/".join(parts[start:]), pattern[3:]) for start in range(len(parts)))
    wanted = pattern.rstrip("/").split("/")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


def test_the_image_runs_without_root() -> None:
    """The last USER is a number above 0, as Kubernetes' runAsNonRoot can check, and it comes before the entry point."""
    user = values("USER", stage=final())[-1]
    assert re.fullmatch(r"[1-9]\d{4,}:[1-9]\d{4,}", user)
    names = [found.name for found in instructions() if found.stage == final()]
    assert names.index("USER") < names.index("ENTRYPOINT")


def test_every_stage_starts_from_one_pinned_base() -> None:
    """The base is one argument with a tag that names Python's and Debian's release, so a digest can replace it."""
    assert values("ARG", stage=0) == ["PYTHON_IMAGE=python:3.11-slim-bookworm"]
    assert {value.split(" ")[0] for value in values("FROM")} == {"${PYTHON_IMAGE}"}
    assert "latest" not in (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_nothing_is_fetched_past_the_locks() -> None:
    """No ADD, no download by hand, and every install from an index is checked by hash."""
    assert values("ADD") == []
    commands = " && ".join(values("RUN")).split("&&")
    assert not [command for command in commands if re.search(r"\b(curl|wget|git|apt-get|apk)\b", command)]
    installs = [command for command in commands if "pip install" in command]
    assert len(installs) == 3
    assert all("--require-hashes -r requirements/" in install or "--offline" in install for install in installs)


def test_the_image_holds_no_build_tools() -> None:
    """The last stage installs nothing and takes the finished environment from the stage before."""
    assert not [value for value in values("RUN", stage=final()) if re.search(r"\b(pip|uv|hatchling|apt)\b", value)]
    assert values("COPY", stage=final()) == ["--from=build /opt/feature-agent /opt/feature-agent"]


def test_no_secret_can_be_left_in_a_layer() -> None:
    """No argument or variable is named for a secret; the index's credentials come by a mount."""
    named = " ".join([*values("ARG"), *values("ENV")])
    assert not re.search(r"(?i)(password|token|secret|api_key)", named)
    assert any("--mount=type=secret" in value for value in values("RUN"))


def test_what_is_copied_exists_and_reaches_the_builder() -> None:
    """Every source of a COPY is in the repository and let through by `.dockerignore`."""
    sources = [
        source for value in values("COPY") if not value.startswith("--from=") for source in value.split(" ")[:-1]
    ]
    assert {"service/", "tools/", "pyproject.toml", "requirements/runtime.lock"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert not ignored(source.rstrip("/")), source


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".venv/bin/python",
        ".env",
        "tests/conftest.py",
        "tools/gameday/faults.py",
        "tools/release.py",
        "tools/testbed/fleet.py",
        "docs/decisions/0001-how-decisions-are-written.md",
        "requirements/dev.lock",
        "service/__pycache__/app.cpython-311.pyc",
        "service/features/__pycache__/model.cpython-311.pyc",
        "development.key",
    ],
)
def test_the_builder_never_sees(path: str) -> None:
    """History, environments, secrets, tests and caches stay out of the build context."""
    assert ignored(path)


@pytest.mark.parametrize(
    "path",
    [
        "service/app.py",
        "service/api/static/redoc.standalone.js",
        "tools/backup/commands.py",
        "tools/demo/run.py",
        "README.md",
    ],
)
def test_the_builder_sees(path: str) -> None:
    """The package with its data files is in the build context."""
    assert not ignored(path)


def test_health_is_asked_without_other_programs() -> None:
    """The health check is Python's own, in exec form, so that it needs neither curl nor a shell."""
    (check,) = values("HEALTHCHECK", stage=final())
    options, _, command = check.partition(" CMD ")
    program, flag, script = json.loads(command)
    assert (program, flag) == ("python", "-c")
    assert "/health/live" in script
    assert {name for name, _, _ in (part.partition("=") for part in options.split(" "))} == {
        "--interval",
        "--timeout",
        "--start-period",
        "--retries",
    }
    compile(script, "HEALTHCHECK", "exec")


def test_signals_reach_the_service() -> None:
    """The entry point is in exec form, so the service is process 1 and drains on SIGTERM; `serve` is the default."""
    assert json.loads(values("ENTRYPOINT", stage=final())[0]) == ["feature-agent"]
    assert json.loads(values("CMD", stage=final())[0]) == ["serve"]


def test_the_root_file_system_may_be_read_only() -> None:
    """State and home are in the one volume; Python writes no bytecode; the ports are announced."""
    set_to = environment()
    assert (set_to["DATA_DIR"], set_to["HOME"], set_to["PYTHONDONTWRITEBYTECODE"]) == ("/data", "/data", "1")
    assert json.loads(values("VOLUME", stage=final())[0]) == ["/data"]
    assert values("EXPOSE", stage=final()) == ["8000 8090"]


def test_dependencies_are_a_layer_of_their_own() -> None:
    """The source is copied after the dependencies are installed, so a change of code does not install them again."""
    first = [found for found in instructions() if found.stage == 1]
    steps = [(found.name, found.value) for found in first if found.name in {"COPY", "RUN"}]
    assert [name for name, _ in steps] == ["COPY", "RUN", "COPY", "COPY", "COPY", "RUN"]
    assert "runtime.lock" in steps[0][1]
