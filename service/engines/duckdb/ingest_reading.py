"""How every column of an upload is read: what the client says first, then what the file or the values say."""

from __future__ import annotations

from msgspec.structs import replace
from sqlglot import exp

from service.engines.duckdb.ingest_columns import ColumnRequest, Reading, column_requests
from service.engines.duckdb.ingest_overrides import forced_readings, forced_type, require_consistent
from service.engines.duckdb.ingest_parquet import typed_readings
from service.engines.duckdb.ingest_source import Source
from service.engines.duckdb.ingest_times import in_zone
from service.engines.duckdb.ingest_types import text_readings
from service.engines.duckdb.sandbox import Sandbox
from service.features.errors import InvalidRequest
from service.features.model import FieldError, ReadOptions

TEXT_TYPES = frozenset({"VARCHAR", "TIME", "TIME_NS"})
"""Types of columns that are read by their values' text: times of day are read alike, whatever file they come in."""


async def read_columns(box: Sandbox, source: Source, overrides: ReadOptions) -> dict[int, Reading]:
    """The reading of each column that is kept, by position.

    Raises InvalidRequest for overrides that do not fit the file, DatasetUnreadable for values that do not convert.
    """
    requests = column_requests(source, overrides)
    require_consistent(requests, overrides, await _zones(box, overrides))
    kept = [request for request in requests if request.override.role != "ignored"]
    forced = [request for request in kept if forced_type(request.override) is not None]
    free = [request for request in kept if forced_type(request.override) is None]
    readings = await text_readings(box, source, [one for one in free if one.column.type in TEXT_TYPES])
    readings |= await typed_readings(box, source, [one for one in free if one.column.type not in TEXT_TYPES])
    readings |= await forced_readings(box, source, forced)
    for request in kept:
        _require_times(request, readings[request.position])
        reading = await in_zone(box, source, request, readings[request.position])
        readings[request.position] = replace(reading, is_value=request.override.role == "feature")
    return readings


async def _zones(box: Sandbox, overrides: ReadOptions) -> frozenset[str]:
    """The zones of the IANA database that the engine knows; asked only when there is one to look for."""
    if overrides.zone is None and all(one.zone is None for one in overrides.columns.values()):
        return frozenset()
    query = exp.select("name").from_(exp.Table(this=exp.Anonymous(this="pg_timezone_names")))
    names = {row[0] for row in await box.execute(query.sql(dialect="duckdb"))}
    # The engine's library knows others, too, three letters that mean different zones to different people.
    return frozenset(name for name in names if name in {"UTC", "GMT"} or ("/" in name and "SystemV" not in name))


def _require_times(request: ColumnRequest, reading: Reading) -> None:
    if request.override.zone is not None and reading.physical != "TIMESTAMP":
        fault = FieldError(f"columns.{request.name}.zone", "is given for a column that holds no times")
        raise InvalidRequest(f"The file cannot be read as asked: {fault.field} {fault.message}.", errors=[fault])
