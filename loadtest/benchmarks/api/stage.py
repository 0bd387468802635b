"""What the servers under test stand on, the same for all: PostgreSQL, Redis, a model, a collector of traces."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self
from uuid import uuid4

import psycopg
from redis import Redis
from redis.exceptions import RedisError

from embedded_postgres.server import start_embedded
from loadtest.benchmarks.api.processes import ROOT, free_port

STEP_SECONDS = 20.0


class Stage:
    """Opened before the first server and closed after the last; its CPU is charged to nobody."""

    def __init__(self, core: int) -> None:
        self.core = core
        """Where everything runs but the server under test."""
        self._opened = ExitStack()
        self.folder = Path()
        self.redis_port = 0
        self.sinks_port = 0

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.callback(os.sched_setaffinity, 0, os.sched_getaffinity(0))
            os.sched_setaffinity(0, {self.core})  # whatever is started from here inherits it
            self.folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
            self._postgres = start_embedded(self.folder / "postgresql")
            undo.callback(self._postgres.stop)
            self.redis_port = free_port()
            self._start_redis(undo)
            self.sinks_port = self._start_sinks(undo)
            self._opened = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    @property
    def redis_url(self) -> str:
        """Of the Redis."""
        return f"redis://127.0.0.1:{self.redis_port}/0"

    @property
    def model_url(self) -> str:
        """What OPENAI_BASE_URL takes."""
        return f"http://127.0.0.1:{self.sinks_port}/v1"

    @property
    def collector_url(self) -> str:
        """What OTEL_EXPORTER_OTLP_ENDPOINT takes."""
        return f"http://127.0.0.1:{self.sinks_port}"

    def new_database(self) -> str:
        """Make an empty database and give its address as SQLAlchemy spells it."""
        name = f"bench_{uuid4().hex}"
        with psycopg.connect(self._postgres.url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return self._postgres.url.replace("@/postgres?", f"@/{name}?")

    def _start_redis(self, undo: ExitStack) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise RuntimeError("redis-server is not on PATH; the benchmark needs a real one")
        options = ["--port", str(self.redis_port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, cwd=self.folder)
        undo.callback(process.wait, STEP_SECONDS)
        undo.callback(process.terminate)
        with Redis(port=self.redis_port) as client:
            last = time.monotonic() + STEP_SECONDS
            while True:
                try:
                    client.ping()
                except RedisError:
                    if time.monotonic() > last:
                        raise
                    time.sleep(0.05)
                else:
                    return

    def _start_sinks(self, undo: ExitStack) -> int:
        command = [sys.executable, "-m", "loadtest.benchmarks.api.sinks"]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        undo.callback(process.communicate, timeout=STEP_SECONDS)
        undo.callback(process.terminate)
        assert process.stdout is not None  # noqa: S101 -- it was asked for
        return int(process.stdout.readline())
