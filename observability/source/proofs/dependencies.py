"""Proofs of `causes/dependencies.py`."""

from __future__ import annotations

from observability.source.proofs.proof import Expected, Proof

_UP = 'dependency_up{job="feature-agent",instance="%s",dependency="%s"}'
_POOL = 'db_pool_connections{job="feature-agent",instance="a",state="in_use"}'
_LIMIT = 'db_pool_connections_limit{job="feature-agent",instance="a"}'
_POSTGRES = "No process of the service reaches its database, or the exporter does not."
_REDIS = "No process of the service reaches Redis, or the exporter does not."

PROOFS = (
    Proof(
        alert="PostgresDown",
        what="as the service sees it",
        fires={_UP % ("a", "database"): "1x4 0x5 1x20", _UP % ("b", "database"): "1x4 0x5 1x20"},
        pending="5m",
        at="7m",
        expect=(Expected(severity="critical", description=_POSTGRES),),
        kept="15m",
        clear="18m",
        below={_UP % ("a", "database"): "0x30", _UP % ("b", "database"): "1x30", "pg_up": "1x30"},
    ),
    Proof(
        alert="PostgresDown",
        what="as its exporter sees it",
        fires={'pg_up{job="postgres"}': "1x4 0x5 1x20"},
        pending="5m",
        at="7m",
        expect=(Expected(severity="critical", description=_POSTGRES),),
        kept="15m",
        clear="18m",
    ),
    Proof(
        alert="PostgresConnections",
        fires={
            'pg_stat_database_numbackends{datname="a"}': "60x12 10x20",
            'pg_stat_database_numbackends{datname="b"}': "30x40",
            "pg_settings_max_connections": "100x40",
        },
        pending="4m",
        at="10m",
        expect=(Expected(description="90% of the connections that the server allows are open."),),
        clear="15m",
        below={
            'pg_stat_database_numbackends{datname="a"}': "50x40",
            'pg_stat_database_numbackends{datname="b"}': "30x40",
            "pg_settings_max_connections": "100x40",
        },
    ),
    Proof(
        alert="DatabasePoolExhausted",
        fires={_POOL: "19x12 2x20", _LIMIT: "20x40"},
        pending="4m",
        at="10m",
        expect=(
            Expected(labels={"job": "feature-agent", "instance": "a"}, description="95% of the pool of a is in use."),
        ),
        clear="15m",
        below={_POOL: "18x40", _LIMIT: "20x40"},
    ),
    Proof(
        alert="RedisDown",
        what="as the service sees it",
        fires={_UP % ("a", "redis"): "1x4 0x5 1x20"},
        pending="5m",
        at="7m",
        expect=(Expected(description=_REDIS),),
        clear="12m",
        below={_UP % ("a", "redis"): "0x30", _UP % ("b", "redis"): "1x30", "redis_up": "1x30"},
    ),
    Proof(
        alert="RedisDown",
        what="as its exporter sees it",
        fires={'redis_up{job="redis"}': "1x4 0x5 1x20"},
        pending="5m",
        at="7m",
        expect=(Expected(description=_REDIS),),
        clear="12m",
    ),
    Proof(
        alert="RedisMemory",
        fires={"redis_memory_used_bytes": "95x12 50x20", "redis_memory_max_bytes": "100x40"},
        pending="4m",
        at="10m",
        expect=(Expected(description="Redis uses 95% of its maxmemory."),),
        clear="15m",
        below={"redis_memory_used_bytes": "90x40", "redis_memory_max_bytes": "100x40"},
    ),
    Proof(
        alert="RedisMemory",
        what="with a limit of its own",
        fires={"redis_memory_used_bytes": "95x12 50x20", "redis_memory_max_bytes": "100x40"},
        at="10m",
        expect=(Expected(description="Redis uses 95% of its maxmemory."),),
        clear="15m",
        below={"redis_memory_used_bytes": "95x40", "redis_memory_max_bytes": "0x40"},
    ),
)
