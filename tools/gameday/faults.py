"""The faults of a game day."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg

from service.store.artifacts import open_artifacts
from service.store.backup_record import BackupRecord, note_backup
from tools.gameday.fault import Do, Expect, Fault, Shows, firing
from tools.gameday.memory import squeezed
from tools.gameday.monitoring import Watch, free_port
from tools.gameday.system import MODEL, Stand

AVAILABILITY, READ, EXTRACT = "ApiAvailabilityBudgetBurn", "ApiLatencyReadBudgetBurn", "ApiLatencyExtractBudgetBurn"
SUCCESS, FRESHNESS = "ExtractionSuccessBudgetBurn", "ExtractionFreshnessBudgetBurn"
LAST_RESORT = {"MODEL_LAST_RESORT": "builtin"}
SOON_AWAY = {"SYNC_WAIT_SECONDS": "0.5"}
"""Callers are sent away with a 202 soon, so that a slow model does not fill the API with those who wait."""
PAGER = "pager"
COLLECTOR_PORT = free_port()
OUTAGE_SECONDS = 25.0


@contextmanager
def api_stopped(stand: Stand, _watch: Watch) -> Iterator[None]:
    """Nobody serves the API."""
    stand.api.stop()
    yield
    stand.api.start()


@contextmanager
def postgres_killed(stand: Stand, _watch: Watch) -> Iterator[None]:
    """The database crashes, and recovers from its log."""
    stand.postgres.crash()
    yield
    stand.postgres.start()


@contextmanager
def redis_killed(stand: Stand, _watch: Watch) -> Iterator[None]:
    """Redis is away."""
    stand.redis.kill()
    yield
    stand.redis.start()


def model(scenario: str) -> Do:
    """The model behaves as the scenario says."""

    @contextmanager
    def behave(stand: Stand, _watch: Watch) -> Iterator[None]:
        stand.model_behaves(scenario)
        yield
        stand.model_behaves("good")

    return behave


@contextmanager
def worker_killed(stand: Stand, _watch: Watch) -> Iterator[None]:
    """The only worker dies."""
    stand.worker.kill()
    yield
    stand.worker.start()


@contextmanager
def poison(stand: Stand, _watch: Watch) -> Iterator[None]:
    """An extraction kills each worker that runs it; something starts them again."""
    over = threading.Event()

    def keep_alive() -> None:
        while not over.wait(0.1):
            if stand.worker.process is not None and stand.worker.process.poll() is not None:
                stand.worker.start()

    keeper = threading.Thread(target=keep_alive, daemon=True)
    keeper.start()
    body = {"dataset_id": "poison", "feature_description": "Average price for each user", "quality_threshold": "low"}
    stand.users.client.post_json("/api/v1/extract-features", body, Prefer="respond-async")
    yield
    over.set()
    keeper.join()


def rate(kind: str, a_second: float) -> Do:
    """So many users of a kind."""

    @contextmanager
    def come(stand: Stand, _watch: Watch) -> Iterator[None]:
        before, stand.users.rates[kind] = stand.users.rates[kind], a_second
        yield
        stand.users.rates[kind] = before

    return come


@contextmanager
def flood(stand: Stand, watch: Watch) -> Iterator[None]:
    """More extractions come than the slow model lets one worker run; then the model is quick again."""
    stand.model_behaves("slow")
    with rate("flood", 40)(stand, watch):
        yield
    stand.model_behaves("good")
    with psycopg.connect(stand.postgres.url.replace("+psycopg", ""), autocommit=True) as connection:
        # An operator cancels the flood.
        connection.execute(
            "UPDATE extractions SET status = 'cancelled', finished_at = now(), progress = 100 WHERE status = 'queued'"
        )


@contextmanager
def stuttering(stand: Stand, _watch: Watch) -> Iterator[None]:
    """The API process gets no CPU for most of each second, as under a tight limit."""
    over = threading.Event()

    def stutter() -> None:
        while not over.is_set():
            stand.api.signal(signal.SIGSTOP)
            time.sleep(0.7)
            stand.api.signal(signal.SIGCONT)
            time.sleep(0.3)

    thread = threading.Thread(target=stutter, daemon=True)
    thread.start()
    yield
    over.set()
    thread.join()


@contextmanager
def locked(stand: Stand, _watch: Watch) -> Iterator[None]:
    """Somebody holds a table that every reader needs."""
    with psycopg.connect(stand.postgres.url.replace("+psycopg", "")) as connection:
        connection.execute("LOCK TABLE datasets IN ACCESS EXCLUSIVE MODE")
        yield


@contextmanager
def locked_often(stand: Stand, _watch: Watch) -> Iterator[None]:
    """Somebody takes a table that every reader needs again and again, so that reads are answered late."""
    over = threading.Event()

    def keep_locking() -> None:
        with psycopg.connect(stand.postgres.url.replace("+psycopg", "")) as connection:
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
def unbacked(stand: Stand, _watch: Watch) -> Iterator[None]:
    """The last backup is an hour old, days in the rules' time; then an operator makes one."""
    record = BackupRecord(datetime.now(UTC) - timedelta(hours=1), "1.0")
    asyncio.run(note_backup(open_artifacts(str(stand.data / "artifacts")), record))
    yield
    stand.command("backup", str(stand.folder / "backup"))


@contextmanager
def fewer_hits(stand: Stand, _watch: Watch) -> Iterator[None]:
    """Requests that were alike are all different."""
    stand.users.repeat = False
    yield
    stand.users.repeat = True
    stand.users.rates["extract"] = 6.0


@contextmanager
def alike(stand: Stand, watch: Watch) -> Iterator[None]:
    """Half a minute of equal requests first."""
    stand.users.repeat = True
    time.sleep(40)
    with fewer_hits(stand, watch):
        yield


@contextmanager
def broken_rule(_stand: Stand, watch: Watch) -> Iterator[None]:
    """A rule that cannot be evaluated is deployed, and taken back."""
    file = watch.folder / "observability/alerts/broken.rules.yml"
    expr = "up * on () group_left up"  # many on either side
    file.write_text(f"groups: [{{name: broken, interval: 1s, rules: [{{record: broken, expr: '{expr}'}}]}}]\n")
    watch.reload()
    yield
    file.unlink()
    watch.reload()


class _Collector(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the name is the base class's
        """Say nothing."""


@contextmanager
def collector_down(_stand: Stand, _watch: Watch) -> Iterator[None]:
    """Nothing listens where traces go; then a collector does."""
    yield
    server = ThreadingHTTPServer(("127.0.0.1", COLLECTOR_PORT), _Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()


@contextmanager
def budget_burnt(stand: Stand, watch: Watch) -> Iterator[None]:
    """The model has failed and nothing stood in; later so much goes well that the budget is in credit again.

    While it fails the page says so, and holds the ticket back: the ticket comes when the page is over.
    """
    stand.model_behaves("status-500")
    time.sleep(OUTAGE_SECONDS)
    stand.model_behaves("good")
    yield
    stand.users.rates["extract"] = 0.0
    while not watch.query('slo:error_budget_remaining:ratio{slo="api-availability"} > 0.1'):
        for _ in range(500):
            with contextlib.suppress(OSError):
                stand.users.client.get("/api/docs")


FAULTS: tuple[Fault, ...] = (
    Fault(
        name="api-stopped",
        does="the only API process is stopped",
        do=api_stopped,
        expect=(Expect(alert="ApiDown", receiver=PAGER),),
        shows=(Shows(panel="API processes", of="down", colour="red"), *firing("ApiDown", "red")),
    ),
    Fault(
        name="postgres-killed",
        does="PostgreSQL is killed (SIGQUIT)",
        do=postgres_killed,
        expect=(Expect(alert="PostgresDown", receiver=PAGER),),
        shows=(
            Shows(panel="Dependencies now", of="no database", colour="red"),
            Shows(panel="Dependencies", of="database", colour="red"),
            *firing("PostgresDown", "red"),
        ),
        may_page=frozenset({AVAILABILITY, READ, EXTRACT, SUCCESS, FRESHNESS}),
    ),
    Fault(
        name="redis-killed",
        does="Redis is killed",
        do=redis_killed,
        expect=(Expect(alert="RedisDown"), Expect(alert="RateLimiterDegraded")),
        shows=(
            Shows(panel="Dependencies now", of="degraded", colour="orange"),
            Shows(panel="Dependencies", of="redis", colour="red"),
            *firing("RedisDown"),
        ),
    ),
    Fault(
        name="model-500",
        does="the model answers 500 to everything; the built-in planner stands in",
        do=model("status-500"),
        expect=(Expect(alert="ModelBreakerOpen"),),
        shows=(Shows(panel="Failed calls of models", of=MODEL, colour="red"), *firing("ModelBreakerOpen")),
        environment=LAST_RESORT,
    ),
    Fault(
        name="model-flaky",
        does="the model answers 500 to a third of the requests",
        do=model("flaky"),
        expect=(Expect(alert="ModelErrors"),),
        shows=(Shows(panel="Failed calls of models", of=MODEL, colour="red"), *firing("ModelErrors")),
        environment=LAST_RESORT | SOON_AWAY,
        rates={"extract": 2},
    ),
    Fault(
        name="model-429",
        does="the model's provider answers 429 to a third of the requests",
        do=model("throttled"),
        expect=(Expect(alert="ModelRateLimited"),),
        shows=(Shows(panel="Failed calls of models", of=MODEL, colour="red"), *firing("ModelRateLimited")),
        environment=LAST_RESORT | SOON_AWAY,
        rates={"extract": 2},
    ),
    Fault(
        name="model-hang",
        does="the model accepts requests and never answers; the built-in planner stands in",
        do=model("hang"),
        expect=(Expect(alert="ModelFallback"),),
        shows=(Shows(panel="Failed calls of models", of=MODEL, colour="red"), *firing("ModelFallback")),
        environment=LAST_RESORT | SOON_AWAY | {"MODEL_TIMEOUT_SECONDS": "8"},
        rates={"extract": 2},
        may_page=frozenset({FRESHNESS}),
    ),
    Fault(
        name="model-slow",
        does="the model takes 12 s for each answer",
        do=model("slow"),
        expect=(Expect(alert="ModelSlow"),),
        shows=firing("ModelSlow"),
        environment=SOON_AWAY | {"WORKER_CONCURRENCY": "48", "MODEL_CONCURRENCY": "48"},
        rates={"extract": 2},
        may_page=frozenset({FRESHNESS}),
    ),
    Fault(
        name="model-faulty-plans",
        does="the model proposes plans with an unknown column",
        do=model("unknown-column"),
        expect=(Expect(alert="PlanRetries"),),
        shows=firing("PlanRetries"),
        environment=LAST_RESORT,
        rates={"extract": 2},
    ),
    Fault(
        name="no-place-for-planning",
        does="two places for planning, and a model that takes 12 s",
        do=model("slow"),
        expect=(Expect(alert="PlanningRefused"), Expect(alert=SUCCESS, receiver=PAGER)),
        shows=(*firing("PlanningRefused")[1:], *firing(SUCCESS, "red")),
        environment={"MODEL_CONCURRENCY": "2", "MODEL_QUEUE": "2"},
        rates={"extract": 2},
        may_page=frozenset({AVAILABILITY}),
    ),
    Fault(
        name="worker-killed",
        does="the only worker is killed",
        do=worker_killed,
        expect=(Expect(alert="NoLiveWorker", receiver=PAGER),),
        shows=(Shows(panel="Worker processes", of="down", colour="red"), *firing("NoLiveWorker", "red")),
        may_page=frozenset({FRESHNESS, "OldestJobTooOld"}),
    ),
    Fault(
        name="poison-job",
        does="one extraction kills every worker that runs it",
        do=poison,
        expect=(
            Expect(alert="WorkersCrashing", within=120),
            Expect(alert="PoisonJob", within=240),
            Expect(alert="DeadLetters", within=240),
        ),
        shows=firing("WorkersCrashing"),
        may_page=frozenset({"NoLiveWorker", "OldestJobTooOld", FRESHNESS}),
        rates={"extract": 0.2},
    ),
    Fault(
        name="bad-tokens",
        does="20 requests a second come with invalid keys",
        do=rate("stranger", 20),
        expect=(Expect(alert="AuthenticationFailureSurge"),),
        shows=firing("AuthenticationFailureSurge"),
    ),
    Fault(
        name="queue-flood",
        does="40 extractions a second are asked for, one worker runs one at a time in 12 s",
        do=flood,
        expect=(Expect(alert="OldestJobTooOld", receiver=PAGER), Expect(alert="QueueGrowing")),
        shows=(
            Shows(panel="Oldest waiting job", of="oldest", colour="red"),
            *firing("OldestJobTooOld", "red"),
        ),
        environment={"WORKER_CONCURRENCY": "1"},
        rates={"extract": 0.2},
        may_page=frozenset({FRESHNESS}),
    ),
    Fault(
        name="memory-pressure",
        does="the API's control group allows hardly the memory that it uses",
        do=squeezed,
        expect=(Expect(alert="MemoryNearLimit"),),
        shows=firing("MemoryNearLimit"),
        may_page=frozenset({"ApiDown"}),
        needs_root=True,
    ),
    Fault(
        name="cpu-starved",
        does="the API process gets no CPU for 0.7 s of each second",
        do=stuttering,
        expect=(Expect(alert="EventLoopLag"),),
        shows=(Shows(panel="Event loop lag", of="p99 feature-agent", colour="orange"), *firing("EventLoopLag")[1:]),
        rates={"read": 10},
        may_page=frozenset({"ApiDown", READ, AVAILABILITY, "PostgresDown"}),
    ),
    Fault(
        name="slow-reads",
        does="a migration locks a table that all readers need for 0.6 s at a time",
        do=locked_often,
        expect=(Expect(alert=READ, receiver=PAGER),),
        shows=(Shows(panel="Burn rate", of="api-latency-read", colour="red"), *firing(READ, "red")),
        rates={"extract": 0.0},
        may_page=frozenset({"PostgresDown"}),
    ),
    Fault(
        name="pool-exhausted",
        does="a migration holds the lock on a table that all readers need; the pool has two connections",
        do=locked,
        expect=(Expect(alert="DatabasePoolExhausted"), Expect(alert=AVAILABILITY, receiver=PAGER)),
        shows=(Shows(panel="Answered 5xx", of="5xx", colour="red"), *firing(AVAILABILITY, "red")),
        environment={"DATABASE_POOL_SIZE": "1", "DATABASE_MAX_OVERFLOW": "1", "DATABASE_POOL_TIMEOUT": "1"},
        rates={"extract": 0.0},
        may_page=frozenset({READ, EXTRACT, "PostgresDown", SUCCESS, FRESHNESS}),
    ),
    Fault(
        name="collector-down",
        does="nothing listens at the address for traces",
        do=collector_down,
        expect=(Expect(alert="SpansDropped"),),
        shows=firing("SpansDropped"),
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
        does="a principal uses up its tokens of the day",
        do=rate("extract", 2),
        expect=(Expect(alert="PrincipalBudgetSpent", receiver="owners"),),
        shows=firing("PrincipalBudgetSpent"),
        environment={"BUDGET_TOKENS_PER_DAY": "200"},
        rates={"extract": 0.0},
    ),
    Fault(
        name="error-budget-spent",
        does="the model failed without a stand-in until the month's error budget was gone, and is well again",
        do=budget_burnt,
        expect=(
            Expect(
                alert="ErrorBudgetSpent",
                receiver="tickets",
                labels={"slo": "api-availability"},
                within=OUTAGE_SECONDS + 120,
                clears=600,
            ),
        ),
        shows=(
            Shows(panel="Error budget left", of="api-availability", colour="red"),
            Shows(panel="Alerts firing", of="ErrorBudgetSpent", colour="orange"),
        ),
        may_page=frozenset({AVAILABILITY, SUCCESS}),
    ),
    Fault(
        name="backup-missing",
        does="the last backup was made two weeks ago, in the rules' time",
        do=unbacked,
        expect=(Expect(alert="BackupTooOld"),),
        shows=firing("BackupTooOld"),
        warm_up=0.0,
    ),
    Fault(
        name="cache-collapse",
        does="requests that were alike and cached become all different",
        do=alike,
        expect=(Expect(alert="PlanCacheCollapse", within=150),),
        shows=firing("PlanCacheCollapse"),
        environment={"PLAN_CACHE_SECONDS": "3600"},
        rates={"extract": 3},
    ),
    Fault(
        name="broken-rule",
        does="a rule is deployed that cannot be evaluated",
        do=broken_rule,
        expect=(Expect(alert="RuleEvaluationFailures"),),
        shows=firing("RuleEvaluationFailures"),
    ),
)
