"""Dependencies and saturation: what the service stands on, and how much room is left."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import units

from observability.source.dashboards import links
from observability.source.dashboards.board import Board, Row
from observability.source.dashboards.disk import disk
from observability.source.dashboards.engine import engine
from observability.source.dashboards.instances import instances
from observability.source.dashboards.kubernetes import cluster
from observability.source.dashboards.names import EXTRACTIONS, MODEL, SATURATION
from observability.source.dashboards.panels import Look, Query, lines, number, states
from observability.source.dashboards.postgres import inside
from observability.source.dashboards.process import cpu, event_loop, memory, pool
from observability.source.dashboards.promql import (
    OWN_JOBS,
    counted,
    per_minute,
    process,
    quantile,
    series,
    share,
    total,
)

NO_EXPORTER = "No {} answers: it is down, or not scraped here"
UP = {"-1": ("not known", "gray"), "0": ("down", "red"), "1": ("up", "green")}
OF_POSTGRES = NO_EXPORTER.format("postgres_exporter")
OF_REDIS = NO_EXPORTER.format("redis_exporter")
DATABASE = (
    links.logs("Log lines about the database", "|~ `(?i)database|postgres`"),
    links.traces("Traces with errors", tags="error=true"),
)
REDIS = (links.logs("Log lines about Redis", "|~ `(?i)redis`"),)
OURS = 'datname!~"template.*|postgres"'


def board() -> Board:
    """The board."""
    return Board(
        SATURATION,
        "Dependencies and saturation",
        "What the service stands on: PostgreSQL, disk and Redis; then its processes; then, in Kubernetes, its pods.",
        [
            Row("Dependencies", [answering(), ups()]),
            Row("PostgreSQL", [pool(8), pool_use(), connections(), transactions(), deadlocks(), size(), backup()]),
            Row("Inside PostgreSQL", inside()),
            Row("Disk", disk()),
            Row("Redis", [redis_memory(), redis_commands(), redis_hits(), redis_trouble()]),
            Row("Instances", [instances()]),
            Row("Processes", [cpu(8), memory(8), event_loop(8), running(), pauses(), garbage(), files()]),
            Row("Engine", engine()),
            Row("Connections of clients", [client_connections(), refusals()]),
            Row("Kubernetes (needs kube-state-metrics and cAdvisor)", cluster(), collapsed=True),
        ],
    )


def answering() -> model.Panel:
    """What each process sees of its dependencies; the name of a job is cut to what the axis has room for."""
    seen = f"min by (dependency, job) ({series('dependency_up')})"
    return states(
        "Dependencies, as the service sees them",
        "Whether each dependency answered the last check of each job's worst placed process.",
        [
            Query(
                f'label_replace({seen}, "process", "$1", "job", "(?:feature-agent-)?(.+)")',
                "{{dependency}}, {{process}}",
            )
        ],
        Look(units.Short, 16, 7, words={"1": ("up", "green"), "0": ("away", "red")}, links=DATABASE),
    )


def ups() -> model.Panel:
    """What the exporters say of the servers."""
    return number(
        "Servers, as their exporters see them",
        "Whether the exporters reach PostgreSQL and Redis; not known while an exporter itself is silent. Up here "
        "and away on the left means that the network or the pool is at fault.",
        [
            Query("min(pg_up) or vector(-1)", "PostgreSQL"),
            Query("min(redis_up) or vector(-1)", "Redis"),
        ],
        Look(units.Short, 8, 7, words=UP, links=DATABASE, empty="Not known", minimum=None),
    )


def pool_use() -> model.Panel:
    """Share of pooled connections in use."""
    used = total(series("db_pool_connections", 'state="in_use"'), "job", "instance")
    limit = total(series("db_pool_connections_limit"), "job", "instance")
    return lines(
        "Pool in use",
        "Share of the connections that each process may open that are in use. Full for long, requests wait "
        "DATABASE_POOL_TIMEOUT and get 503.",
        [Query(share(used, limit), "{{instance}} {{job}}")],
        Look(units.PercentUnit, height=8, thresholds={0.9: "red"}, maximum=1, links=DATABASE),
    )


def connections() -> model.Panel:
    """Server connections against their limit."""
    return lines(
        "Connections of the server",
        "Connections to PostgreSQL by database, and the most that the server takes.",
        [
            Query(f"sum by (datname) (pg_stat_database_numbackends{{{OURS}}})", "{{datname}}"),
            Query("max(pg_settings_max_connections)", "limit"),
        ],
        Look(units.Short, height=8, colours={"limit": "red"}, links=DATABASE, empty=OF_POSTGRES),
    )


def transactions() -> model.Panel:
    """Commits and rollbacks."""
    selected = f"{{{OURS}}}[$__rate_interval]"
    return lines(
        "Transactions",
        "Transactions a second that were committed and rolled back.",
        [
            Query(f"sum(rate(pg_stat_database_xact_commit{selected}))", "committed"),
            Query(f"sum(rate(pg_stat_database_xact_rollback{selected}))", "rolled back"),
        ],
        Look(units.OpsPerSecond, height=8, colours={"rolled back": "orange"}, links=DATABASE, empty=OF_POSTGRES),
    )


def deadlocks() -> model.Panel:
    """Deadlocks."""
    return lines(
        "Deadlocks",
        "Deadlocks a minute that PostgreSQL broke. There are none in the service's own statements: look at who else "
        "writes.",
        [Query(f"60 * sum by (datname) (rate(pg_stat_database_deadlocks{{{OURS}}}[$__rate_interval]))", "{{datname}}")],
        Look(units.CountsPerMinute, height=8, links=DATABASE, empty=OF_POSTGRES),
    )


def size() -> model.Panel:
    """Size of the databases."""
    return lines(
        "Size of the database",
        "Bytes of each database. RETENTION_DAYS decides how long ended extractions are kept.",
        [Query(f"max by (datname) (pg_database_size_bytes{{{OURS}}})", "{{datname}}")],
        Look(units.BytesIEC, height=8, links=DATABASE, empty=OF_POSTGRES),
    )


def backup() -> model.Panel:
    """Age of the last backup."""
    made = f"max({series('backup_last_success_timestamp_seconds')})"
    return number(
        "Age of the last backup",
        "Time since the last complete backup: what would be lost with the disk. A day is the longest it should be.",
        [Query(f"time() - ({made} > 0) or ({made} == 0) - 1", "age")],
        Look(
            units.Seconds,
            24,
            4,
            thresholds={93600: "orange", 172800: "red"},
            words={"-1": ("No backup was ever made: feature-agent backup URL", "red")},
            decimals=1,
            links=[links.logs("Log lines about backups", "|~ `(?i)backup`")],
            empty="Not known: no process answers",
            minimum=None,
        ),
    )


def redis_memory() -> model.Panel:
    """Memory of Redis against its limit."""
    return lines(
        "Memory of Redis",
        "Bytes that Redis uses, and the most it may (0: no limit was set).",
        [
            Query("max(redis_memory_used_bytes)", "used"),
            Query("max(redis_memory_max_bytes)", "limit"),
        ],
        Look(units.BytesIEC, 6, 8, colours={"limit": "red"}, links=REDIS, empty=OF_REDIS),
    )


def redis_commands() -> model.Panel:
    """Commands and clients."""
    return lines(
        "Commands and clients of Redis",
        "Commands a second, and connected clients.",
        [
            Query("sum(rate(redis_commands_processed_total[$__rate_interval]))", "commands a second"),
            Query("sum(redis_connected_clients)", "clients"),
        ],
        Look(units.Short, 6, 8, links=REDIS, empty=OF_REDIS),
    )


def redis_hits() -> model.Panel:
    """Share of keys found."""
    hits = "sum(rate(redis_keyspace_hits_total[$__rate_interval]))"
    misses = "sum(rate(redis_keyspace_misses_total[$__rate_interval]))"
    return lines(
        "Keys found in Redis",
        "Share of look-ups that found their key: cached plans, rate limits and breakers together.",
        [Query(share(hits, f"({hits} + {misses})"), "found")],
        Look(units.PercentUnit, 6, 8, maximum=1, links=[links.board("Plan cache", MODEL), *REDIS], empty=OF_REDIS),
    )


def redis_trouble() -> model.Panel:
    """Evicted keys and refused connections."""
    return lines(
        "Evicted keys and refused connections",
        "Keys a minute that Redis dropped for want of memory, and connections that it refused.",
        [
            Query("60 * sum(rate(redis_evicted_keys_total[$__rate_interval]))", "evicted keys"),
            Query("60 * sum(rate(redis_rejected_connections_total[$__rate_interval]))", "refused connections"),
        ],
        Look(units.CountsPerMinute, 6, 8, links=REDIS, empty=OF_REDIS),
    )


def running() -> model.Panel:
    """What the engine and the edge do now."""
    return lines(
        "Work in hand",
        "Extractions that run (the engine computes them) and requests in flight, by process.",
        [
            Query(series("active_extractions"), "{{instance}} extractions"),
            Query(series("api_requests_in_flight"), "{{instance}} requests"),
        ],
        Look(units.Short, 6, 8, links=[links.board("Extractions", EXTRACTIONS)]),
    )


def pauses() -> model.Panel:
    """How long the garbage collector stops everything."""
    return lines(
        "Garbage collector's pauses, p99",
        "99 of 100 pauses of the collector were shorter, by generation. Nothing else runs in a process meanwhile.",
        [Query(quantile(0.99, "gc_pause_seconds", by=("generation",)), "generation {{generation}}", exemplars=True)],
        Look(units.Seconds, 6, 8, thresholds={0.1: "orange"}, links=[links.traces("Slow traces", slower="2500ms")]),
    )


def garbage() -> model.Panel:
    """Collections of Python's garbage collector."""
    return lines(
        "Garbage collections",
        "Collections a minute by generation. Those of generation 2 stop the process for longest.",
        [
            Query(
                total(per_minute("python_gc_collections_total", OWN_JOBS), "generation"),
                "generation {{generation}}",
            )
        ],
        Look(
            units.OpsPerMinute,
            6,
            8,
            links=[links.metrics("Objects collected", "python_gc_objects_collected_total")],
        ),
    )


def client_connections() -> model.Panel:
    """Connections of clients against their limit."""
    return lines(
        "Connections of clients",
        "Connections to the API's port of each process, and the most that one may have: MAX_CONNECTIONS. When all "
        "are taken, idle ones are closed for new ones.",
        [
            Query(series("connections_open"), "{{instance}}"),
            Query(f"min({series('connections_limit')} > 0)", "limit"),
        ],
        Look(units.Short, 12, 8, colours={"limit": "red"}, links=[links.logs("Log lines")]),
    )


def refusals() -> model.Panel:
    """Refused connections by reason."""
    return lines(
        "Connections refused",
        "Connections a minute that were refused or closed before or beside a request, by reason: too many, too slow, "
        "too large, or not HTTP. Evicted ones were idle, and others needed their places.",
        [Query(counted("connections_refused_total", by=("reason",)), "{{reason}}")],
        Look(
            units.CountsPerMinute,
            12,
            8,
            links=[links.logs("Log lines about refused connections", "|= `connections refused`")],
        ),
    )


def files() -> model.Panel:
    """Open files against their limit."""
    opened, limit = process("process_open_fds"), process("process_max_fds")
    return lines(
        "Open files",
        "Share of the files and connections that each process may hold open. At 1 it accepts no more.",
        [Query(f"{opened} / {limit}", "{{instance}} {{job}}")],
        Look(units.PercentUnit, 6, 8, thresholds={0.8: "orange", 0.95: "red"}, links=[links.logs("Log lines")]),
    )
