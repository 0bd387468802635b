"""Which engine serves the domain's ports, and with which options: what ENGINE_URL says.

This is the one place outside of an engine's own package that names engines. Each engine reads its own options.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from service.engines.duckdb import options as duckdb
from service.engines.limits import Limits
from service.features.ports import Compute, Files, Measure, Reader, Rehearsal

DEFAULT_ENGINE_URL = duckdb.DEFAULT_URL
ENGINES = {duckdb.SCHEME: duckdb.parse_options}
"""Readers of a URL's query, by its scheme."""


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


class SelectedEngine(Struct, frozen=True):
    """What ENGINE_URL says."""

    system: str
    """The engine's name, as in spans."""
    limits: Limits
    """Of one computation."""
    concurrency: int
    """Computations at once."""


def select_engine(url: str, *, max_rows: int, max_cells: int) -> SelectedEngine:
    """The engine that the URL names, with its options and these limits of a dataset."""
    options = engine_options(url)
    limits = replace(duckdb.limits_of(options), max_rows=max_rows, max_cells=max_cells)
    return SelectedEngine(urlsplit(url).scheme, limits, options["concurrency"])


def open_local_engine(system: str, files: Files, limits: Limits, scratch: Path) -> Engine:
    """The engine of that name in this process. Raises ValueError for a name that is not in ENGINES."""
    if system != duckdb.SCHEME:
        raise ValueError(f"there is no engine {system!r}")
    from service.engines.duckdb.engine import DuckDBEngine  # noqa: PLC0415 -- 60 MiB that the service does without

    return DuckDBEngine(files, limits, scratch)
