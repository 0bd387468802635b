"""Mutations of what the service reads, answers and uses."""

from __future__ import annotations

from tests.k8s.mutations import WORKER, Mutation, container, drop, pod, put, replaced, spec, variable

HPA = "HorizontalPodAutoscaler"
ENGINE = "duckdb://?memory_mib={memory}&threads={threads}&scratch_mib={scratch}&concurrency=1"

SERVICE = (
    Mutation(
        "a variable of OpenTelemetry misspelt",
        "settings",
        "OTEL_TRACE_SAMPLER is no setting",
        variable("feature-agent", "OTEL_TRACE_SAMPLER", "always_on"),
    ),
    Mutation(
        "a setting twice", "settings", "gets DRAIN_SECONDS twice", variable("feature-agent-api", "DRAIN_SECONDS", "5")
    ),
    Mutation(
        "a variable for nothing",
        "settings",
        "BACKUP_URL is read by nothing",
        put(lambda c: container(c, "feature-agent-migrate", "Job"), "env", [{"name": "BACKUP_URL", "value": "x"}]),
    ),
    Mutation("a setting misspelt", "settings", "is no setting", variable("feature-agent", "DRAIN_SECOND", "10")),
    Mutation(
        "a setting of the wrong type",
        "settings",
        "does not start",
        variable("feature-agent-api", "DATABASE_POOL_SIZE", "some"),
    ),
    Mutation(
        "settings that production refuses",
        "settings",
        "does not start: Value error, DEBUG",
        variable("feature-agent", "DEBUG", "true"),
    ),
    Mutation("not in production", "settings", "runs as test", variable("feature-agent", "ENVIRONMENT", "test")),
    Mutation(
        "secrets elsewhere",
        "settings",
        "nothing mounted at /secrets",
        variable("feature-agent", "SECRETS_DIR", "/secrets"),
    ),
    Mutation("an API with jobs", "settings", "would run jobs", variable("feature-agent", "WORKER_IN_API", "true")),
    Mutation(
        "a host that is refused",
        "settings",
        "ALLOWED_HOSTS lacks",
        put(lambda c: spec(c, "Ingress")["rules"][0], "host", "x.example.com"),
    ),
    Mutation(
        "a secret that is no setting",
        "settings",
        "jwt_secrte is no setting",
        put(lambda c: spec(c, "ExternalSecret", "feature-agent")["data"][0], "secretKey", "jwt_secrte"),
    ),
    Mutation("no readiness probe", "probes", "has no readinessProbe", drop(container, "readinessProbe")),
    Mutation(
        "a probe of no route",
        "probes",
        "no route there",
        put(lambda c: container(c)["startupProbe"]["httpGet"], "path", "/healthz"),
    ),
    Mutation(
        "a worker asked for the API's port",
        "probes",
        "no route there",
        put(lambda c: container(c, WORKER)["livenessProbe"]["httpGet"], "port", "http"),
    ),
    Mutation(
        "liveness by readiness",
        "probes",
        "is for another probe",
        put(lambda c: container(c)["livenessProbe"]["httpGet"], "path", "/health/ready"),
    ),
    Mutation(
        "a hasty probe",
        "probes",
        "waits less than 2 s",
        put(lambda c: container(c)["livenessProbe"], "timeoutSeconds", 1),
    ),
    Mutation(
        "one failure is enough",
        "probes",
        "fewer than 3",
        put(lambda c: container(c)["readinessProbe"], "failureThreshold", 1),
    ),
    Mutation(
        "a probe that overtakes itself",
        "probes",
        "before it timed out",
        put(lambda c: container(c)["readinessProbe"], "periodSeconds", 1),
    ),
    Mutation(
        "a starved pod killed",
        "probes",
        "kills within 30 s",
        put(lambda c: container(c)["livenessProbe"], "failureThreshold", 2),
    ),
    Mutation(
        "quicker than the database",
        "probes",
        "than the service does for its database",
        put(lambda c: container(c)["readinessProbe"], "timeoutSeconds", 2),
    ),
    Mutation(
        "a short drain",
        "probes",
        "before the readinessProbe has failed",
        variable("feature-agent", "DRAIN_SECONDS", "9"),
    ),
    Mutation("a short grace", "stopping", "stopping takes up to 55 s", put(pod, "terminationGracePeriodSeconds", 54)),
    Mutation(
        "a longer drain", "stopping", "stopping takes up to 65 s", variable("feature-agent", "DRAIN_SECONDS", "20")
    ),
    Mutation(
        "a worker's short grace",
        "stopping",
        "stopping takes up to 65 s",
        put(lambda c: pod(c, WORKER), "terminationGracePeriodSeconds", 45),
    ),
    Mutation("no preStop", "stopping", "no preStop sleep", drop(container, "lifecycle")),
    Mutation(
        "a worker's preStop",
        "stopping",
        "handed back",
        put(lambda c: container(c, WORKER), "lifecycle", {"preStop": {"sleep": {"seconds": 1}}}),
    ),
    Mutation(
        "more memory than the limit",
        "engine",
        "the limit is 512Mi",
        variable("feature-agent-api", "ENGINE_URL", ENGINE.format(memory=400, threads=1, scratch=10)),
    ),
    Mutation(
        "a smaller limit",
        "engine",
        "the limit is 600Mi",
        put(lambda c: container(c, WORKER)["resources"]["limits"], "memory", "600Mi"),
    ),
    Mutation(
        "more threads than CPUs",
        "engine",
        "more threads",
        variable("feature-agent-worker", "ENGINE_URL", ENGINE.format(memory=100, threads=2, scratch=10)),
    ),
    Mutation(
        "more scratch than disk",
        "engine",
        "scratch space",
        variable("feature-agent-api", "ENGINE_URL", ENGINE.format(memory=100, threads=1, scratch=3000)),
    ),
    Mutation(
        "too many connections",
        "database",
        "ConfigMap/pgbouncer-",
        variable("feature-agent-api", "DATABASE_POOL_SIZE", "20"),
    ),
    Mutation(
        "more pods than connections", "database", "the service may open", put(lambda c: spec(c, HPA), "maxReplicas", 20)
    ),
    Mutation(
        "a smaller PgBouncer",
        "database",
        "takes 100 connections",
        replaced("pgbouncer", "pgbouncer.ini", "max_db_connections = 240", "max_db_connections = 100"),
    ),
    Mutation(
        "a smaller PostgreSQL",
        "database",
        "StatefulSet/postgres takes 27",
        put(lambda c: container(c, "postgres", "StatefulSet")["args"], 2, "max_connections=30"),
        of="overlays/local",
    ),
)
