"""The servers under test: how each is started, and how a client speaks to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from loadtest.benchmarks.api.stage import Stage

SEEDS = {0.0: "seed-none", 0.1: "seed-10", 1.0: "seed-100"}
"""The seed design's variants by the share of requests that are sampled."""
Family = Literal["ours", "seed", "plugins", "plain"]
SECRET = "benchmark-secret-of-more-than-32-bytes"  # noqa: S105 -- guards nothing
PACKAGE = "loadtest.benchmarks.api"
NOBODY = "http://127.0.0.1:9"
"""Where nothing listens."""
NO_LIMIT = "1000000000"
"""Requests a minute: every one is counted, none refused."""


@dataclass(frozen=True)
class Variant:
    """One server under test."""

    name: str
    title: str
    family: Family
    command: tuple[str, ...]
    environment: Mapping[str, str]
    health: str = "/health"
    workloads: frozenset[str] = frozenset({"status", "cached", "uncached", "upload"})
    worker: bool = False
    """Whether a worker process runs its extractions, on the other core."""
    against: str = "seed-none"
    """The seed design at the same sampling."""


def traces(share: float) -> dict[str, str]:
    """Sample that share of requests."""
    if not share:
        return {"JAEGER_ENABLED": "false"}
    return {
        "JAEGER_ENABLED": "true",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": str(share),
    }


def ours(
    name: str,
    title: str,
    *,
    without: tuple[str, ...] = (),
    share: float = 0.1,
    workloads: str = "status",
    worker: bool = False,
    **more: str,
) -> Variant:
    """The service itself, with parts taken out and settings changed."""
    command = ("-m", f"{PACKAGE}.ours", *without, "--", "serve")
    environment = {**traces(share), **more}
    kinds = frozenset(workloads.split())
    return Variant(name, title, "ours", command, environment, "/health/ready", kinds, worker, SEEDS[share])


def seed(share: float, title: str, *, name: str = "", workloads: str = "status cached", **more: str) -> Variant:
    """The seed design, sampled like that."""
    command, kinds = ("-m", f"{PACKAGE}.seed.app"), frozenset(workloads.split())
    environment = {**traces(share), "SEED_TRACES": "true" if share else "false", **more}
    return Variant(name or SEEDS[share], title, "seed", command, environment, workloads=kinds, against=SEEDS[share])


_ALL = "status cached uncached upload"
_STATUS = frozenset({"status"})
_PLAIN = f"{PACKAGE}.plain"

# All run at once and share a PostgreSQL, which takes 200 connections.
VARIANTS: tuple[Variant, ...] = (
    Variant("uvicorn", "raw uvicorn, a fixed answer", "plain", ("-m", _PLAIN, "uvicorn"), {}, workloads=_STATUS),
    Variant("litestar", "bare Litestar, a fixed answer", "plain", ("-m", _PLAIN, "litestar"), {}, workloads=_STATUS),
    ours("ours-none", "ours, no telemetry", without=("telemetry",), share=0.0, workloads=_ALL, LOG_LEVEL="ERROR"),
    ours("ours-10", "ours, 10 % traces", workloads=_ALL),
    ours("ours-100", "ours, 100 % traces", share=1.0, workloads=_ALL),
    ours("apart", "ours, 10 % traces, workers apart", workloads="status cached", worker=True, WORKER_IN_API="false"),
    ours("no-collector", "ours, 100 % traces, the collector away", share=1.0, JAEGER_ENDPOINT=NOBODY),
    ours("reads-10", "ours, 10 % traces, reads alone"),
    ours("reads-none", "ours, no telemetry, reads alone", without=("telemetry",), share=0.0, LOG_LEVEL="ERROR"),
    ours("no-metrics", "ours, 10 %, without metrics", without=("metrics",)),
    ours("no-access", "ours, 10 %, without access line", LOG_LEVEL="ERROR"),
    ours("no-traces", "ours, without traces", share=0.0),
    ours("reads-100", "ours, 100 % traces, reads alone", share=1.0),
    ours("ids-alone", "ours, no traces, metrics or access line", without=("metrics",), share=0.0, LOG_LEVEL="ERROR"),
    ours("no-auth", "ours, 10 %, without authentication", without=("authentication",)),
    ours("no-limit", "ours, 10 %, without rate limit", RATE_LIMIT_PER_MINUTE="0"),
    Variant(
        "granian",
        "ours, 10 %, on granian instead of uvicorn",
        "ours",
        ("-m", "granian", "--interface", "asgi", "--factory", "--no-access-log", "service.app:create_app"),
        traces(0.1),
        "/health/ready",
        _STATUS,
        against="seed-10",
    ),
    Variant(
        "plugins",
        "Litestar with its own plugins, 100 % traces",
        "plugins",
        ("-m", f"{PACKAGE}.plugins"),
        {},
        workloads=_STATUS,
        against="seed-100",
    ),
    seed(0.0, "seed design, no OpenTelemetry"),
    seed(0.1, "seed design, 10 % traces", workloads="status cached uncached"),
    seed(1.0, "seed design, 100 % traces"),
    seed(
        0.1,
        "seed design, 10 % traces, its cache before the agent",
        name="seed-cache",
        workloads="cached",
        SEED_CACHE="true",
    ),
)


def environment_of(variant: Variant, stage: Stage, port: int, metrics_port: int) -> dict[str, str]:
    """The server's environment; each has a database of its own."""
    database = stage.new_database()
    shared = {
        "PORT": str(port),
        "GRANIAN_PORT": str(port),
        "OTEL_EXPORTER_OTLP_ENDPOINT": stage.collector_url,
        "OPENAI_BASE_URL": stage.model_url,
        "OPENAI_API_KEY": "none",
        "PYTHONUNBUFFERED": "",
    }
    ours_only = {
        "ENVIRONMENT": "test",
        "DATABASE_URL": database.replace("+psycopg", ""),
        "REDIS_URL": stage.redis_url,
        "DATA_DIR": str(stage.folder / f"data-{port}"),
        "PROMETHEUS_PORT": str(metrics_port),
        "RATE_LIMIT_PER_MINUTE": NO_LIMIT,
        "MAX_WAITING_PER_PRINCIPAL": "0",
        "JWT_SECRET": SECRET,
        "PRIMARY_MODEL": "openai-chat:good",
        "JAEGER_ENDPOINT": stage.collector_url,
    }
    theirs = {
        "SEED_REDIS_URL": stage.redis_url,
        "SEED_JWT_SECRET": SECRET,
    }
    return {**shared, **(ours_only if variant.family == "ours" else theirs), **variant.environment}
