"""PostgreSQL, Redis, and our connections to them."""

from __future__ import annotations

from observability.source.causes.cause import OUTLASTS_BURNS, Cause

CAUSES = (
    Cause(
        alert="PostgresDown",
        group="postgres",
        query='max(dependency_up{@own,dependency="database"}) == 0 or max(pg_up) == 0',
        pending="1m",
        keep=OUTLASTS_BURNS,
        severity="critical",
        slo="api-availability",
        summary="PostgreSQL does not answer: nothing can be accepted or run.",
        description="No process of the service reaches its database, or the exporter does not.",
        dashboard="feature-agent-saturation",
    ),
    Cause(
        alert="PostgresConnections",
        group="postgres",
        query="sum(pg_stat_database_numbackends) / max(pg_settings_max_connections) > 0.8",
        pending="5m",
        summary="PostgreSQL runs out of connections.",
        description="{{ $value | humanizePercentage }} of the connections that the server allows are open.",
        dashboard="feature-agent-saturation",
    ),
    Cause(
        alert="DatabasePoolExhausted",
        group="postgres",
        query=(
            'max by (job, instance) (db_pool_connections{@own,state="in_use"})'
            " / max by (job, instance) (db_pool_connections_limit{@own}) > 0.9"
        ),
        pending="5m",
        slo="api-availability",
        summary="A process uses all the database connections that it may open.",
        description="{{ $value | humanizePercentage }} of the pool of {{ $labels.instance }} is in use.",
        dashboard="feature-agent-saturation",
    ),
    Cause(
        alert="RedisDown",
        group="redis",
        query='max(dependency_up{@own,dependency="redis"}) == 0 or max(redis_up) == 0',
        pending="1m",
        summary="Redis does not answer: rate limits, breakers and plans are each process's own.",
        description="No process of the service reaches Redis, or the exporter does not.",
        dashboard="feature-agent-saturation",
    ),
    Cause(
        alert="RedisMemory",
        group="redis",
        query="max(redis_memory_used_bytes / (redis_memory_max_bytes > 0)) > 0.9",
        pending="5m",
        summary="Redis runs out of memory and evicts, or refuses to write.",
        description="Redis uses {{ $value | humanizePercentage }} of its maxmemory.",
        dashboard="feature-agent-saturation",
    ),
)
