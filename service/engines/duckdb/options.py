"""What ENGINE_URL says of DuckDB, without importing it."""

from __future__ import annotations

from urllib.parse import parse_qsl

from service.engines.limits import Limits

SCHEME = "duckdb"
"""Of the URL; also the name of the system in spans."""
DEFAULT_URL = "duckdb://"
MIB = 1024 * 1024
DEFAULTS = {"memory_mib": 1024, "threads": 2, "scratch_mib": 20_480, "timeout_seconds": 600, "concurrency": 4}
"""Limits of one computation, and how many run at once."""


def parse_options(query: str) -> dict[str, int]:
    """Read the options of a URL's query; what it leaves out has its default. Raises ValueError for any other."""
    options = dict(DEFAULTS)
    for name, value in parse_qsl(query):
        if name not in options or not value.isdecimal() or int(value) < 1:
            raise ValueError(f"ENGINE_URL has no option {name}={value}; it takes {', '.join(options)}, each above 0")
        options[name] = int(value)
    return options


def limits_of(options: dict[str, int]) -> Limits:
    """The limits of one computation."""
    return Limits(
        memory_bytes=options["memory_mib"] * MIB,
        threads=options["threads"],
        scratch_bytes=options["scratch_mib"] * MIB,
        seconds=float(options["timeout_seconds"]),
    )
