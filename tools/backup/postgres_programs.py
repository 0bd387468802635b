"""Find and run PostgreSQL's client programs, with secrets in their environment and never on their command lines."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from psycopg.pq import Conninfo

from service.store.embedded import EmbeddedUnavailable, embedded_programs

CHUNK_BYTES = 2**20
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")
_INHERITED = re.compile(r"PG[A-Z]+|PATH|HOME|LD_LIBRARY_PATH")


class ProgramsMissing(Exception):
    """No installed programs fit the server; the message says what to do."""


class ProgramFailed(Exception):
    """A program failed; the message is one line."""


def find_programs(names: Sequence[str], *, major: int) -> Path:
    """Find the folder of PostgreSQL's programs of that release or a newer one, on the PATH or in the embedded server.

    Raises ProgramsMissing.
    """
    old: list[int] = []
    for folder in _candidate_folders(names[0]):
        found = _major_version(folder / names[0]) if all((folder / name).is_file() for name in names) else None
        if found is not None and found >= major:
            return folder
        old += [] if found is None else [found]
    why = f"only those of PostgreSQL {max(old)} are here" if old else "they are not on the PATH"
    raise ProgramsMissing(f"{' and '.join(names)} of PostgreSQL {major} or newer are needed, and {why}: install them.")


def libpq_environment(arguments: Mapping[str, Any]) -> dict[str, str]:
    """Translate psycopg's connection arguments into the environment variables that libpq reads.

    Arguments that libpq has no variable for, such as `keepalives_idle`, are left out.
    """
    variables = {option.keyword.decode(): option.envvar for option in Conninfo.get_defaults()}
    inherited = {name: value for name, value in os.environ.items() if _INHERITED.fullmatch(name)}
    chosen = {
        variable.decode(): str(value)
        for keyword, value in arguments.items()
        if value is not None and (variable := variables.get(keyword))
    }
    return {**inherited, **chosen, "LC_ALL": "C"}


async def run(program: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """Run a program and return what it prints. Raises ProgramFailed."""
    return b"".join([chunk async for chunk in output(program, arguments, environment)]).decode()


async def output(program: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> AsyncGenerator[bytes]:
    """Run a program and yield what it prints, in chunks. Raises ProgramFailed when its exit status is not 0."""
    with tempfile.TemporaryFile() as errors:
        process = await asyncio.create_subprocess_exec(
            program,
            *arguments,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            limit=CHUNK_BYTES,
        )
        assert process.stdout is not None  # noqa: S101 -- it was asked for
        try:
            while chunk := await process.stdout.read(CHUNK_BYTES):
                yield chunk
            if await process.wait():
                raise ProgramFailed(f"{program.name} failed: {_first_error(errors)}")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def _candidate_folders(name: str) -> list[Path]:
    on_path = shutil.which(name)
    folders = [] if on_path is None else [Path(on_path).parent]
    try:
        return [*folders, embedded_programs()]
    except EmbeddedUnavailable:
        return folders


def _major_version(program: Path) -> int | None:
    try:
        printed = subprocess.run(  # noqa: S603 -- a program of the machine's administrator or of the installed package
            [program, "--version"], capture_output=True, check=True, text=True, timeout=10
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = _VERSION.search(printed)
    return int(found[1]) if found else None


def _first_error(log: IO[bytes]) -> str:
    """Return the first line that is marked as an error; later ones may quote a row."""
    log.seek(0)
    lines = log.read(CHUNK_BYTES).decode(errors="replace").splitlines()
    grave = [line for line in lines if "error:" in line or "ERROR:" in line or "FATAL:" in line]
    return (grave or lines or ["it gave no reason"])[0].strip()
