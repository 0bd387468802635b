"""Panels about what happens inside PostgreSQL: its cache, transactions that last, locks, slow statements."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import units

from observability.source.dashboards import links
from observability.source.dashboards.panels import Column, Look, Query, lines, rows
from observability.source.dashboards.promql import share

DATABASES = 'datname!~"template.*|postgres"'
SESSIONS = f'{DATABASES},backend_type="client backend"'
"""Of clients: no autovacuum, no WAL sender."""
NO_EXPORTER = "No postgres_exporter answers: it is down, or not scraped here"
DATABASE = (
    links.logs("Log lines about the database", "|~ `(?i)database|postgres`"),
    links.traces("Slow traces", slower="2500ms"),
)


def inside() -> list[model.Panel]:
    """Build all of them."""
    return [cache_hits(), longest(), waiting(), locks(), statements()]


def cache_hits() -> model.Panel:
    """Share of blocks that were in memory."""
    hits = f"sum by (datname) (rate(pg_stat_database_blks_hit{{{DATABASES}}}[$__rate_interval]))"
    reads = f"sum by (datname) (rate(pg_stat_database_blks_read{{{DATABASES}}}[$__rate_interval]))"
    return lines(
        "Blocks found in memory",
        "Share of the blocks that were in PostgreSQL's own cache (shared_buffers). Below 95 % for long, what is in use "
        "does not fit into it.",
        [Query(share(hits, f"({hits} + {reads})"), "{{datname}}")],
        Look(units.PercentUnit, 6, maximum=1, links=DATABASE, empty=NO_EXPORTER),
    )


def longest() -> model.Panel:
    """Age of the oldest transaction, by what it does."""
    return lines(
        "Longest transaction",
        "Age of the oldest open transaction by what its session does. One that is idle in a transaction holds its "
        "locks and keeps dead rows from being removed; above 15 min it warns.",
        [Query(f"max by (state) (pg_stat_activity_max_tx_duration{{{SESSIONS}}})", "{{state}}")],
        Look(units.Seconds, 6, thresholds={60: "orange", 900: "red"}, links=DATABASE, empty=NO_EXPORTER),
    )


def waiting() -> model.Panel:
    """Sessions that wait, by what for."""
    blocked = f'{SESSIONS},wait_event_type!~"|Client"'
    return lines(
        "Sessions that wait",
        "Sessions in the middle of a statement by what they wait for. Lock: another transaction holds the row or the "
        "table; for 5 min it warns. IO: the disk.",
        [Query(f"sum by (wait_event_type) (pg_stat_activity_count{{{blocked}}})", "{{wait_event_type}}")],
        Look(
            units.Short,
            6,
            stacked=True,
            colours={"Lock": "red"},
            links=DATABASE,
            empty="No session waits, or no postgres_exporter answers",
        ),
    )


def locks() -> model.Panel:
    """Locks held or asked for, by mode."""
    return lines(
        "Locks",
        "Locks that are held or waited for, by mode. An access exclusive one stops every reader of its table: a "
        "migration, or VACUUM FULL.",
        [Query(f"sum by (mode) (pg_locks_count{{{DATABASES}}})", "{{mode}}")],
        Look(units.Short, 6, colours={"accessexclusivelock": "red"}, links=DATABASE, empty=NO_EXPORTER),
    )


def statements() -> model.Panel:
    """What takes the database's time, by statement."""
    by = "sum by (datname, queryid)"
    selected = f"{{{DATABASES}}}[$__rate_interval]"
    seconds = f"{by} (rate(pg_stat_statements_seconds_total{selected}))"
    calls = f"{by} (rate(pg_stat_statements_calls_total{selected}))"
    return rows(
        "Slow statements",
        "Statements that take the database's time: the share of one core or session that each keeps busy, how often it "
        "runs, how long one run takes. The view pg_stat_statements has the text of each by its queryid.",
        [
            Column("Database", label="datname", width=180),
            Column("Statement (queryid)", label="queryid"),
            Column("Busy", f"topk(15, {seconds})", unit=units.PercentUnit, width=110),
            Column("Calls", f"{calls} > 0", unit=units.OpsPerSecond, width=130),
            Column("One run", f"{seconds} / ({calls} > 0)", unit=units.Seconds, width=130),
        ],
        Look(
            width=24,
            height=9,
            links=DATABASE,
            empty="No statement ran, or the extension pg_stat_statements is missing",
        ),
        highest="Busy",
    )
