"""Tries a plan on a sample of its dataset: the statements and measures of a real run, on fewer rows and less memory.

The sample is small enough for about a second of one thread, and the same in every run. Rows of a plan with an entity
are sampled by entity, so that aggregates and windows see whole histories; a plan without one is tried on single rows.
What depends on the dataset as a whole (ranks, frequencies, the latest instant) is taken from the sample.

The statistics go to a planner, which may be a foreign model. Features that read a personal column are tried and left
out: a mean could be one person's value, and counts of rows that meet a predicate would answer questions about it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import duckdb
from msgspec import Struct
from msgspec.structs import replace
from sqlglot import exp

from service.concurrency.deadline import seconds_left
from service.engines.duckdb.evidence import measure
from service.engines.duckdb.open_tables import views
from service.engines.duckdb.sandbox import sandbox
from service.engines.duckdb.statements import Connection, template
from service.engines.limits import REHEARSAL_SECONDS, Limits
from service.engines.sql.compile import COMPUTED
from service.engines.sql.compile_tables import compile_tables
from service.engines.sql.relations import OBSERVATIONS
from service.engines.sql.template import DATASET, ROW_ID, column, number
from service.features.errors import ComputeFailed, DeadlineExceeded
from service.features.lineage import all_sources, sources_of
from service.features.model import FeatureEvidence, FeaturePlan, PlannedFeature, Profile
from service.features.ports import Files, RehearsedFeature
from service.features.tables import Tables, known_entity

MEMORY_BYTES = 256 * 2**20
SCRATCH_BYTES = 128 * 2**20

ROWS = 30_000
"""A share of 1 % is then known within 0.06 points (one standard error), and 20 windows take well under a second."""
MIN_ENTITIES = 100
"""Fewer say too little of how a feature is distributed; of so many, long histories are cut to their latest part."""

PARTS = 1_000_000
KEY = "CASE WHEN :entity IS NULL THEN HASH(:row) ELSE HASH(:entity) END"
MAX_OBSERVATIONS = 3_000
CHOSEN = "HASH(:key, 1) % :parts < :chosen"
"""The second argument keeps the choice apart from that of `sample.py`, which draws from what was chosen here."""


class Shares(Struct, frozen=True):
    """How much of a dataset is taken."""

    entities: float
    """Of the entities, or of the rows when the plan has none."""
    rows: float = 1.0
    """Of the rows of those entities."""


async def rehearse(
    artifacts: Files, limits: Limits, scratch: Path, tables: Tables, plan: FeaturePlan
) -> tuple[RehearsedFeature, ...]:
    """Statistics of the plan's features on a sample, in the plan's order, those that read personal columns left out.

    Raises ComputeFailed, ComputeOutOfMemory, DeadlineExceeded.
    """
    small = Limits(
        memory_bytes=min(limits.memory_bytes, MEMORY_BYTES),
        threads=1,
        scratch_bytes=min(limits.scratch_bytes, SCRATCH_BYTES),
        seconds=min(limits.seconds, REHEARSAL_SECONDS),
    )
    try:
        # Fetching the artifact takes of the time, too.
        async with asyncio.timeout(seconds_left(small.seconds)), AsyncExitStack() as stack:
            opened = [artifacts.local(dataset.artifact_key) for dataset in tables.all]
            paths = [await stack.enter_async_context(each) for each in opened]
            box = await stack.enter_async_context(sandbox(small, scratch=scratch, readable=paths))
            evidence = await box.run(lambda execute: _rehearse(Connection(execute), paths, tables, plan))
    except TimeoutError:
        raise DeadlineExceeded("A trial of the plan on a sample did not end within its time.") from None
    except (duckdb.Error, OSError) as error:
        # Its own words may quote a cell.
        raise ComputeFailed(f"The engine could not try the plan ({type(error).__name__}).") from None
    withheld = {feature.name for feature in plan.published if reads_personal(feature, plan, tables.profile)}
    return tuple(_rehearsed(found) for found in evidence if found.name not in withheld)


def reads_personal(feature: PlannedFeature, plan: FeaturePlan, profile: Profile) -> bool:
    """Whether the feature is made of a personal column; what is counted in the last days reads the plan's time."""
    timed = feature.operation.reads_plan_time()
    names = {*sources_of(plan, feature), plan.time if timed else None}
    return any(known.personal for known in profile.columns if known.name in names)


def shares(plan: FeaturePlan, profile: Profile) -> Shares:
    """The shares that give about `ROWS` rows."""
    fitting = min(1.0, ROWS / max(1, profile.row_count))
    known = None if plan.entity is None else profile.column(plan.entity)
    if known is None:
        return Shares(fitting)
    entities = min(1.0, max(fitting, MIN_ENTITIES / max(1, known.distinct_count)))
    return Shares(entities, fitting / entities)


def _rehearse(
    connection: Connection, paths: Sequence[Path], tables: Tables, plan: FeaturePlan
) -> tuple[FeatureEvidence, ...]:
    tables = replace(tables, options=replace(tables.options, horizon=None))
    connection.create(DATASET, _sample(paths[0], tables, plan))
    for view, path in [*zip(views(tables), paths, strict=True)][1:]:
        rows = _file(path).select("*")
        if view == OBSERVATIONS and tables.observed is not None:
            share = MAX_OBSERVATIONS / max(1, tables.observed.profile.row_count)
            connection.create(view, rows.where(_chosen(column(ROW_ID), share)) if share < 1 else rows)
        else:
            connection.name(view, rows)
    compiled = compile_tables(plan, tables)
    connection.create(COMPUTED, compiled.computed)
    # Without time and label: drift and association within a sample are not reported.
    return measure(connection, replace(compiled, time=None, label=None), plan, tables, target=None)


def _file(path: Path) -> exp.Select:
    return exp.select().from_(exp.alias_(template("READ_PARQUET(:path)", path=exp.Literal.string(str(path))), "d"))


def _sample(path: Path, tables: Tables, plan: FeaturePlan) -> exp.Select:
    """The columns that the plan reads of the dataset, of the rows that are chosen."""
    rows, profile = _file(path), tables.main.profile
    share = shares(plan, profile)
    if share.entities < 1:
        rows = rows.where(_by_entity(_own(plan.entity, profile), share.entities))
    if share.rows < 1:
        rows = rows.where(_latest(rows, _own(plan.time, profile), share.rows))
    return rows.select(*(column(name) for name in dict.fromkeys((*_read(tables, plan), ROW_ID))))


def _own(name: str | None, profile: Profile) -> str | None:
    """The name of a column of the dataset itself."""
    return name if name is not None and profile.column(name) is not None else None


def _read(tables: Tables, plan: FeaturePlan) -> Iterator[str]:
    """The dataset's own columns that the plan reads, and those that its related tables join."""
    key = known_entity(plan, tables)
    names = [plan.entity, plan.time, tables.time, *(key.columns if key is not None else ())]
    names += all_sources(plan)
    for name in names:
        place, own = tables.layout.places.get(name or "", (-1, ""))
        if place == 0:
            yield own
    for table in tables.layout.tables:
        if table.join is not None and table.join.to == 0 and table.join.other is not None:
            yield table.join.other


def _by_entity(entity: str | None, share: float) -> exp.Expr:
    """Whether the row's entity is chosen; rows without one are chosen one by one."""
    row = column(ROW_ID)
    key = row if entity is None else template(KEY, entity=column(entity), row=row)
    return _chosen(key, share)


def _latest(rows: exp.Select, time: str | None, share: float) -> exp.Expr:
    """Whether the row belongs to the latest part of the rows; without a time, whether it is one of a random part."""
    if time is None:
        return _chosen(template("HASH(:row, 2)", row=column(ROW_ID)), share)
    instant = template("EPOCH_US(:t)", t=column(time))
    start = rows.select(template("APPROX_QUANTILE(:i, :q)", i=instant, q=number(1 - share)))
    return template(":i >= :start", i=instant, start=start.subquery())


def _chosen(key: exp.Expr, share: float) -> exp.Expr:
    """A share of the keys by their hash."""
    return template(CHOSEN, key=key, parts=number(PARTS), chosen=number(math.ceil(share * PARTS)))


def _rehearsed(found: FeatureEvidence) -> RehearsedFeature:
    statistics = found.statistics
    return RehearsedFeature(
        name=found.name,
        dtype=found.dtype,
        null_ratio=statistics.null_ratio,
        distinct_count=statistics.distinct_count,
        top_share=found.top_share,
        mean=statistics.mean,
        standard_deviation=statistics.standard_deviation,
    )
