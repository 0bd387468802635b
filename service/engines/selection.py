"""Which engine serves the domain's ports, and with which options: what ENGINE_URL says.

This is the one place outside of an engine's own package that names engines. Each engine reads its own options.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from opentelemetry.trace import TracerProvider

from service.engines.duckdb import options as duckdb
from service.engines.limits import Limits
from service.features.ports import Compute, Files, Measure, Reader, Rehearsal

DEFAULT_ENGINE_URL = duckdb.DEFAULT_URL
ENGINES = {duckdb.SCHEME: duckdb.parse_options}
"""Readers of a URL's query, by its scheme."""
READER_SYSTEM = duckdb.SCHEME
"""What reads files, whichever engine computes, by its name in spans."""


class Engine(Reader, Compute[Any], Measure[Any], Rehearsal, Protocol):
    """What serves every port; it measures the tables that it computes."""


def engine_options(url: str) -> dict[str, int]:
    """The options of the engine that the URL names.

    Raises ValueError, naming ENGINE_URL, for another engine or option.
    """
    parts = urlsplit(url)
    if parts.scheme not in ENGINES:
        schemes = ", ".join(f"{scheme}://" for scheme in ENGINES)
        raise ValueError(f"ENGINE_URL has the scheme {parts.scheme!r}; this release runs {schemes}")
    return ENGINES[parts.scheme](parts.query)


def reader_limits(url: str) -> tuple[Limits, int]:
    """The limits of reading one file, and how many are read at once."""
    options = engine_options(url)
    return duckdb.limits_of(options), options["concurrency"]


def open_reader(files: Files, limits: Limits, scratch: Path) -> Reader:
    """What reads files, one at a time, for a process that does nothing else."""
    from service.engines.duckdb.engine import DuckDBEngine  # noqa: PLC0415 -- 60 MiB that not every process needs

    return DuckDBEngine(files, limits, scratch, concurrency=1)


def open_engine(url: str, files: Files, scratch: Path, tracer_provider: TracerProvider | None = None) -> Engine:
    """The engine that the URL names, on these artifacts and this scratch space."""
    from service.engines.duckdb.engine import DuckDBEngine  # noqa: PLC0415 -- 60 MiB that not every process needs

    limits, concurrency = reader_limits(url)
    return DuckDBEngine(files, limits, scratch, concurrency=concurrency, tracer_provider=tracer_provider)
