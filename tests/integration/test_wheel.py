"""The wheel holds the service with the tools that are installed with it, and nothing that needs a checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and unpack it, as an installer does."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=100)
    [wheel] = (folder / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_wheel_has_the_installed_tools_alone(installed: Path) -> None:
    """`demo` and `backup` are in it; drills and `make` recipes are not."""
    assert {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")} == {"service", "tools"}
    assert {path.name for path in (installed / "tools").iterdir()} == {"__init__.py", "backup", "demo"}
    assert (installed / "service/py.typed").exists()


@pytest.mark.parametrize("command", ["demo", "backup", "restore", "doctor"])
def test_commands_are_found_in_the_wheel(installed: Path, command: str) -> None:
    """Each command's help comes from the unpacked wheel."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(installed)}
    program = (
        "import sys; import service.__main__ as line; print(line.__file__, flush=True);"
        f"sys.exit(line.main(['{command}', '--help']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=installed, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(str(installed))
    assert f"Usage: feature-agent {command}" in done.stdout
