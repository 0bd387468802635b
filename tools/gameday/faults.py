"""The faults of a game day, each with the alerts and panels that must show it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg

from service.store.artifacts import open_artifacts
from service.store.backup_record import BackupRecord, record_backup
from tools.gameday.clients import quota_reached, slow_clients, stream_flood, upload_flood
from tools.gameday.fault import ExpectedAlert, ExpectedPanel, Fault, Inflict, overview_shows
from tools.gameday.memory import memory_pressure
from tools.gameday.monitoring import Monitoring, free_port
from tools.gameday.system import MODEL, System

AVAILABILITY, READ, EXTRACT = "ApiAvailabilityBudgetBurn", "ApiLatencyReadBudgetBurn", "ApiLatencyExtractBudgetBurn"
SUCCESS, FRESHNESS = "ExtractionSuccessBudgetBurn", "ExtractionFreshnessBudgetBurn"
LAST_RESORT = {"MODEL_LAST_RESORT": "builtin"}
SOON_AWAY = {"SYNC_WAIT_SECONDS": "0.5"}
"""Answer with 202 soon, so that waiting callers of a slow model do not fill the API."""
PAGER = "pager"
COLLECTOR_PORT = free_port()
OUTAGE_SECONDS = 25.0
MODEL_FAILS = ExpectedPanel(panel="Failed calls of models", of=MODEL, colour="red")


@contextmanager
def api_stopped(system: System, _monitoring: Monitoring) -> Generator[None]:
    """Stop the only API process."""
    system.api.stop()
    yield
    system.api.start()


@contextmanager
def postgres_killed(system: System, _monitoring: Monitoring) -> Generator[None]:
    """Crash the database; it recovers from its log."""
    system.postgres.crash()
    yield
    system.postgres.start()


@contextmanager
def redis_killed(system: System, _monitoring: Monitoring) -> Generator[None]:
    """Kill Redis."""
    system.redis.kill()
    yield
    system.redis.start()


def model(scenario: str) -> Inflict:
    """Have the model behave as a scenario."""

    @contextmanager
    def change_scenario(system: System, _monitoring: Monitoring) -> Generator[None]:
        system.set_model_behaviour(scenario)
        yield
        system.set_model_behaviour("good")

    return change_scenario


@contextmanager
def worker_killed(system: System, _monitoring: Monitoring) -> Generator[None]:
    """Kill the only worker."""
    system.worker.kill()
    yield
    system.worker.start()


@contextmanager
def poison(system: System, _monitoring: Monitoring) -> Generator[None]:
    """Request an extraction that kills each worker that runs it, and restart the worker each time."""
    over = threading.Event()

    def keep_alive() -> None:
        while not over.wait(0.1):
            if system.worker.process is not None and system.worker.process.poll() is not None:
                system.worker.start()

    keeper = threading.Thread(target=keep_alive, daemon=True)
    keeper.start()
    body = {"dataset_id": "poison", "feature_description": "Average price for each user", "quality_threshold": "low"}
    system.users.client.post_json("/api/v1/extract-features", body, Prefer="respond-async")
    yield
    over.set()
    keeper.join()


def rate(kind: str, a_second: float) -> Inflict:
    """Change how many requests a second a kind of user sends."""

    @contextmanager
    def change_rate(system: System, _monitoring: Monitoring) -> Generator[None]:
        before, system.users.rates[kind] = system.users.rates[kind], a_second
        yield
        system.users.rates[kind] = before

    return change_rate


@contextmanager
def flood(system: System, monitoring: Monitoring) -> Generator[None]:
    """Request more extractions than one worker can run with a slow model; then make the model fast again."""
    system.set_model_behaviour("slow")
    with rate("flood", 40)(system, monitoring):
        yield
    system.set_model_behaviour("good")
    with psycopg.connect(system.postgres.url.replace("+psycopg", ""), autocommit=True) as connection:
        # As an operator would cancel the backlog.
        connection.execute(
            "UPDATE extractions SET status = 'cancelled', finished_at = now(), progress = 100 WHERE status = 'queued'"
        )


@contextmanager
def cpu_starved(system: System, _monitoring: Monitoring) -> Generator[None]:
    """Suspend the API process for most of each second, as a tight CPU limit does."""
    over = threading.Event()

    def throttle() -> None:
        while not over.is_set():
            system.api.signal(signal.SIGSTOP)
            time.sleep(0.7)
            system.api.signal(signal.SIGCONT)
            time.sleep(0.3)

    thread = threading.Thread(target=throttle, daemon=True)
    thread.start()
    yield
    over.set()
    thread.join()


@contextmanager
def table_locked(system: System, _monitoring: Monitoring) -> Generator[None]:
    """Hold an exclusive lock on a table that every read needs."""
    with psycopg.connect(system.postgres.url.replace("+psycopg", "")) as connection:
        connection.execute("LOCK TABLE datasets IN ACCESS EXCLUSIVE MODE")
        yield


@contextmanager
def table_locked_repeatedly(system: System, _monitoring: Monitoring) -> Generator[None]:
    """Lock a table that every read needs again and again, so that reads are slow."""
    over = threading.Event()

    def keep_locking() -> None:
        with psycopg.connect(system.postgres.url.replace("+psycopg", "")) as connection:
            while not over.is_set():
                connection.execute("LOCK TABLE datasets IN ACCESS EXCLUSIVE MODE")
                over.wait(0.6)
                connection.rollback()
                over.wait(0.05)

    thread = threading.Thread(target=keep_locking, daemon=True)
    thread.start()
    yield
    over.set()
    thread.join()


@contextmanager
def backup_missing(system: System, _monitoring: Monitoring) -> Generator[None]:
    """Date the last backup an hour back, which is days in the time of the rules; then make a backup."""
    record = BackupRecord(datetime.now(UTC) - timedelta(hours=1), "1.0")
    asyncio.run(record_backup(open_artifacts(str(system.data / "artifacts")), record))
    yield
    system.run_command("backup", str(system.folder / "backup"))


@contextmanager
def different_requests(system: System, _monitoring: Monitoring) -> Generator[None]:
    """Send different requests in place of equal ones."""
    system.users.repeat = False
    yield
    system.users.repeat = True
    system.users.rates["extract"] = 6.0


@contextmanager
def cache_collapse(system: System, monitoring: Monitoring) -> Generator[None]:
    """Send equal requests for 40 s, then different ones."""
    system.users.repeat = True
    time.sleep(40)
    with different_requests(system, monitoring):
        yield


@contextmanager
def broken_rule(_system: System, monitoring: Monitoring) -> Generator[None]:
    """Deploy a rule that cannot be evaluated, then remove it."""
    file = monitoring.folder / "observability/alerts/broken.rules.yml"
    expr = "up * on () group_left up"  # many on either side
    file.write_text(f"groups: [{{name: broken, interval: 1s, rules: [{{record: broken, expr: '{expr}'}}]}}]\n")
    monitoring.reload()
    yield
    file.unlink()
    monitoring.reload()


class _Collector(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the name is the base class's
        """Log nothing."""


@contextmanager
def collector_down(_system: System, _monitoring: Monitoring) -> Generator[None]:
    """Leave the address for traces without a listener, then start a collector there."""
    yield
    server = ThreadingHTTPServer(("127.0.0.1", COLLECTOR_PORT), _Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()


@contextmanager
def error_budget_spent(system: System, monitoring: Monitoring) -> Generator[None]:
    """Fail the model until the error budget is spent, then send good requests until it has recovered.

    During the outage the page inhibits the ticket: the ticket fires once the page has cleared.
    """
    system.set_model_behaviour("status-500")
    time.sleep(OUTAGE_SECONDS)
    system.set_model_behaviour("good")
    yield
    system.users.rates["extract"] = 0.0
    while not monitoring.query('slo:error_budget_remaining:ratio{slo="api-availability"} > 0.1'):
        for _ in range(500):
            with contextlib.suppress(OSError):
                system.users.client.get("/api/docs")


FAULTS: tuple[Fault, ...] = (
    Fault(
        name="api-stopped",
        description="the only API process is stopped",
        inflict=api_stopped,
        alerts=(ExpectedAlert(alert="ApiDown", receiver=PAGER),),
        panels=(ExpectedPanel(panel="API processes", of="down", colour="red"), *overview_shows("ApiDown", "red")),
    ),
    Fault(
        name="postgres-killed",
        description="PostgreSQL is killed (SIGQUIT)",
        inflict=postgres_killed,
        alerts=(ExpectedAlert(alert="PostgresDown", receiver=PAGER),),
        panels=(
            ExpectedPanel(panel="Dependencies now", of="no database", colour="red"),
            ExpectedPanel(panel="Dependencies", of="database", colour="red"),
            *overview_shows("PostgresDown", "red"),
        ),
        may_page=frozenset({AVAILABILITY, READ, EXTRACT, SUCCESS, FRESHNESS}),
    ),
    Fault(
        name="redis-killed",
        description="Redis is killed",
        inflict=redis_killed,
        alerts=(ExpectedAlert(alert="RedisDown"), ExpectedAlert(alert="RateLimiterDegraded")),
        panels=(
            ExpectedPanel(panel="Dependencies now", of="degraded", colour="orange"),
            ExpectedPanel(panel="Dependencies", of="redis", colour="red"),
            *overview_shows("RedisDown"),
        ),
    ),
    Fault(
        name="model-500",
        description="the model answers 500 to everything; the built-in planner stands in",
        inflict=model("status-500"),
        alerts=(ExpectedAlert(alert="ModelBreakerOpen"),),
        panels=(
            MODEL_FAILS,
            *overview_shows("ModelBreakerOpen"),
        ),
        environment=LAST_RESORT,
    ),
    Fault(
        name="model-flaky",
        description="the model answers 500 to a third of the requests",
        inflict=model("flaky"),
        alerts=(ExpectedAlert(alert="ModelErrors"),),
        panels=(MODEL_FAILS, *overview_shows("ModelErrors")),
        environment=LAST_RESORT | SOON_AWAY,
        rates={"extract": 2},
    ),
    Fault(
        name="model-429",
        description="the model's provider answers 429 to a third of the requests",
        inflict=model("throttled"),
        alerts=(ExpectedAlert(alert="ModelRateLimited"),),
        panels=(
            MODEL_FAILS,
            *overview_shows("ModelRateLimited"),
        ),
        environment=LAST_RESORT | SOON_AWAY,
        rates={"extract": 2},
    ),
    Fault(
        name="model-hang",
        description="the model accepts requests and never answers; the built-in planner stands in",
        inflict=model("hang"),
        alerts=(ExpectedAlert(alert="ModelFallback"),),
        panels=(
            MODEL_FAILS,
            *overview_shows("ModelFallback"),
        ),
        environment=LAST_RESORT | SOON_AWAY | {"MODEL_TIMEOUT_SECONDS": "8"},
        rates={"extract": 2},
        may_page=frozenset({FRESHNESS}),
    ),
    Fault(
        name="model-slow",
        description="the model takes 12 s for each answer",
        inflict=model("slow"),
        alerts=(ExpectedAlert(alert="ModelSlow"),),
        panels=overview_shows("ModelSlow"),
        environment=SOON_AWAY | {"WORKER_CONCURRENCY": "48", "MODEL_CONCURRENCY": "48"},
        rates={"extract": 2},
        may_page=frozenset({FRESHNESS}),
    ),
    Fault(
        name="model-faulty-plans",
        description="the model proposes plans with an unknown column",
        inflict=model("unknown-column"),
        alerts=(ExpectedAlert(alert="PlanRetries"),),
        panels=overview_shows("PlanRetries"),
        environment=LAST_RESORT,
        rates={"extract": 2},
    ),
    Fault(
        name="no-place-for-planning",
        description="two places for planning, and a model that takes 12 s",
        inflict=model("slow"),
        alerts=(ExpectedAlert(alert="PlanningRefused"), ExpectedAlert(alert=SUCCESS, receiver=PAGER)),
        panels=(*overview_shows("PlanningRefused")[1:], *overview_shows(SUCCESS, "red")),
        environment={"MODEL_CONCURRENCY": "2", "MODEL_QUEUE": "2"},
        rates={"extract": 2},
        may_page=frozenset({AVAILABILITY}),
    ),
    Fault(
        name="worker-killed",
        description="the only worker is killed",
        inflict=worker_killed,
        alerts=(ExpectedAlert(alert="NoLiveWorker", receiver=PAGER),),
        panels=(
            ExpectedPanel(panel="Worker processes", of="down", colour="red"),
            *overview_shows("NoLiveWorker", "red"),
        ),
        may_page=frozenset({FRESHNESS, "OldestJobTooOld"}),
    ),
    Fault(
        name="poison-job",
        description="one extraction kills every worker that runs it",
        inflict=poison,
        alerts=(
            ExpectedAlert(alert="WorkersCrashing", within=120),
            ExpectedAlert(alert="PoisonJob", within=240),
            ExpectedAlert(alert="DeadLetters", within=240),
        ),
        panels=overview_shows("WorkersCrashing"),
        may_page=frozenset({"NoLiveWorker", "OldestJobTooOld", FRESHNESS}),
        rates={"extract": 0.2},
    ),
    Fault(
        name="bad-tokens",
        description="20 requests a second come with invalid keys",
        inflict=rate("unauthenticated", 20),
        alerts=(ExpectedAlert(alert="CredentialGuessing"),),
        panels=overview_shows("CredentialGuessing"),
    ),
    Fault(
        name="slow-clients",
        description="60 connections at a time send half a header and never the rest",
        inflict=slow_clients,
        alerts=(ExpectedAlert(alert="ConnectionsRefused"),),
        panels=overview_shows("ConnectionsRefused"),
        environment={"HEADER_TIMEOUT_SECONDS": "2"},
    ),
    Fault(
        name="upload-flood",
        description="a principal uploads 12 files at once, again and again; it may 2",
        inflict=upload_flood,
        alerts=(ExpectedAlert(alert="RequestsOverShare", labels={"kind": "upload"}, within=120),),
        panels=overview_shows("RequestsOverShare"),
        environment={"MAX_UPLOADS_PER_PRINCIPAL": "2"},
    ),
    Fault(
        name="stream-flood",
        description="a principal follows a waiting extraction on 12 streams, again and again; it may 2",
        inflict=stream_flood,
        alerts=(ExpectedAlert(alert="RequestsOverShare", labels={"kind": "stream"}, within=120),),
        panels=overview_shows("RequestsOverShare"),
        environment={"MAX_STREAMS_PER_PRINCIPAL": "2", "MODEL_TIMEOUT_SECONDS": "600"},
        rates={"extract": 0.0},
        may_page=frozenset({FRESHNESS}),
    ),
    Fault(
        name="quota-reached",
        description="a principal that keeps as many datasets as it may goes on uploading",
        inflict=quota_reached,
        alerts=(ExpectedAlert(alert="QuotaRefusals", labels={"quota": "datasets"}, within=120, clears=300),),
        panels=overview_shows("QuotaRefusals"),
        environment={"MAX_DATASETS": "2"},
    ),
    Fault(
        name="queue-flood",
        description="40 extractions a second are asked for, one worker runs one at a time in 12 s",
        inflict=flood,
        alerts=(ExpectedAlert(alert="OldestJobTooOld", receiver=PAGER), ExpectedAlert(alert="QueueGrowing")),
        panels=(
            ExpectedPanel(panel="Oldest waiting job", of="oldest", colour="red"),
            *overview_shows("OldestJobTooOld", "red"),
        ),
        environment={"WORKER_CONCURRENCY": "1"},
        rates={"extract": 0.2},
        may_page=frozenset({FRESHNESS}),
    ),
    Fault(
        name="memory-pressure",
        description="the API's control group allows hardly the memory that it uses",
        inflict=memory_pressure,
        alerts=(ExpectedAlert(alert="MemoryNearLimit"),),
        panels=overview_shows("MemoryNearLimit"),
        may_page=frozenset({"ApiDown"}),
        needs_root=True,
    ),
    Fault(
        name="cpu-starved",
        description="the API process gets no CPU for 0.7 s of each second",
        inflict=cpu_starved,
        alerts=(ExpectedAlert(alert="EventLoopLag"),),
        panels=(
            ExpectedPanel(panel="Event loop lag", of="p99 feature-agent", colour="orange"),
            *overview_shows("EventLoopLag")[1:],
        ),
        rates={"read": 10},
        may_page=frozenset({"ApiDown", READ, AVAILABILITY, "PostgresDown"}),
    ),
    Fault(
        name="slow-reads",
        description="a migration locks a table that all readers need for 0.6 s at a time",
        inflict=table_locked_repeatedly,
        alerts=(ExpectedAlert(alert=READ, receiver=PAGER),),
        panels=(ExpectedPanel(panel="Burn rate", of="api-latency-read", colour="red"), *overview_shows(READ, "red")),
        rates={"extract": 0.0},
        may_page=frozenset({"PostgresDown"}),
    ),
    Fault(
        name="pool-exhausted",
        description="a migration holds the lock on a table that all readers need; the pool has two connections",
        inflict=table_locked,
        alerts=(ExpectedAlert(alert="DatabasePoolExhausted"), ExpectedAlert(alert=AVAILABILITY, receiver=PAGER)),
        panels=(ExpectedPanel(panel="Answered 5xx", of="5xx", colour="red"), *overview_shows(AVAILABILITY, "red")),
        environment={"DATABASE_POOL_SIZE": "1", "DATABASE_MAX_OVERFLOW": "1", "DATABASE_POOL_TIMEOUT": "1"},
        rates={"extract": 0.0},
        may_page=frozenset({READ, EXTRACT, "PostgresDown", SUCCESS, FRESHNESS}),
    ),
    Fault(
        name="collector-down",
        description="nothing listens at the address for traces",
        inflict=collector_down,
        alerts=(ExpectedAlert(alert="SpansDropped"),),
        panels=overview_shows("SpansDropped"),
        environment={
            "JAEGER_ENABLED": "true",
            "JAEGER_ENDPOINT": f"http://127.0.0.1:{COLLECTOR_PORT}",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
            "OTEL_BSP_SCHEDULE_DELAY": "500",
        },
        warm_up=0.0,
    ),
    Fault(
        name="budget-of-a-principal",
        description="a principal uses up its tokens of the day",
        inflict=rate("extract", 2),
        alerts=(ExpectedAlert(alert="PrincipalBudgetSpent", receiver="owners"),),
        panels=overview_shows("PrincipalBudgetSpent"),
        environment={"BUDGET_TOKENS_PER_DAY": "200"},
        rates={"extract": 0.0},
    ),
    Fault(
        name="error-budget-spent",
        description="the model failed without a system-in until the month's error budget was gone, and is well again",
        inflict=error_budget_spent,
        alerts=(
            ExpectedAlert(
                alert="ErrorBudgetSpent",
                receiver="tickets",
                labels={"slo": "api-availability"},
                within=OUTAGE_SECONDS + 120,
                clears=600,
            ),
        ),
        panels=(
            ExpectedPanel(panel="Error budget left", of="api-availability", colour="red"),
            ExpectedPanel(panel="Alerts firing", of="ErrorBudgetSpent", colour="orange"),
        ),
        may_page=frozenset({AVAILABILITY, SUCCESS}),
    ),
    Fault(
        name="backup-missing",
        description="the last backup was made two weeks ago, in the rules' time",
        inflict=backup_missing,
        alerts=(ExpectedAlert(alert="BackupTooOld"),),
        panels=overview_shows("BackupTooOld"),
        warm_up=0.0,
    ),
    Fault(
        name="cache-collapse",
        description="requests that were alike and cached become all different",
        inflict=cache_collapse,
        alerts=(ExpectedAlert(alert="PlanCacheCollapse", within=150),),
        panels=overview_shows("PlanCacheCollapse"),
        environment={"PLAN_CACHE_SECONDS": "3600"},
        rates={"extract": 3},
    ),
    Fault(
        name="broken-rule",
        description="a rule is deployed that cannot be evaluated",
        inflict=broken_rule,
        alerts=(ExpectedAlert(alert="RuleEvaluationFailures"),),
        panels=overview_shows("RuleEvaluationFailures"),
    ),
)
