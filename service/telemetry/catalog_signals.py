"""DATA only: every span with its attributes, and every key of a log line."""

from __future__ import annotations

from typing import get_args

from service.features.model import Stage
from service.telemetry.catalog_model import Span

EXEMPLAR = "feature_agent.exemplar"
"""Set on a span whose trace an exemplar links to; the collector keeps every trace with it."""
KEPT_BY_ID = 6554
"""Of 65 536 traces this many, a tenth, are kept by their id: those whose first 16 random bits are less than it."""

_MESSAGING = (
    "messaging.system",
    "messaging.destination.name",
    "messaging.operation.name",
    "messaging.operation.type",
    "error.type",
)
_JOB = (*_MESSAGING, "extraction.id", EXEMPLAR)
_DELIVERY = (*_MESSAGING, "feature_agent.webhook.id", EXEMPLAR)
_SERVED = (
    "http.request.method",
    "http.request.method_original",
    "http.route",
    "http.response.status_code",
    "error.type",
    "url.scheme",
    "url.path",
    "network.protocol.version",
    "client.address",
    "client.port",
    "server.address",
    "server.port",
    "user_agent.original",
    EXEMPLAR,
)
_AGENT = (
    "gen_ai.operation.name",
    "gen_ai.agent.name",
    "gen_ai.agent.call.id",
    "gen_ai.conversation.id",
    "gen_ai.tool.definitions",
    "logfire.json_schema",
    "logfire.msg",
)
_DATABASE = ("db.system.name", "db.operation.name", "db.query.text", "db.namespace", "db.collection.name")
_REDIS = ("db.redis.args_length", "db.redis.pipeline_length", "server.address", "server.port", "network.transport")
_ENGINE = ("db.system.name", "db.operation.name", "error.type")

SPANS: tuple[Span, ...] = (
    Span(
        "{method} {endpoint}",
        "SERVER",
        "One HTTP request, from its first byte to the last of its answer.",
        _SERVED,
    ),
    Span(
        "{method}",
        "SERVER",
        "Likewise, for a path without a route.",
        _SERVED,
    ),
    Span("job extract_features", "PRODUCER", "An extraction is put into the queue.", _JOB),
    Span(
        "job extract_features",
        "CONSUMER",
        "One attempt at an extraction, in whichever process; it links to the attempt before it.",
        (*_JOB, "feature_agent.job.outcome"),
    ),
    *(
        Span(f"extraction.{stage}", "INTERNAL", f"The {stage} stage of an extraction.", ("extraction.id", "error.type"))
        for stage in get_args(Stage)
    ),
    Span(
        "model.attempt",
        "CLIENT",
        "One request to a model; a repeated one links to the one before it.",
        (
            "gen_ai.request.model",
            "feature_agent.model",
            "feature_agent.attempt",
            "http.response.status_code",
            "error.type",
            EXEMPLAR,
        ),
    ),
    Span("job deliver_webhook", "PRODUCER", "A webhook is put into the queue.", _DELIVERY),
    Span(
        "job deliver_webhook",
        "CONSUMER",
        "One attempt at a webhook, in whichever process; it links to the attempt before it.",
        (*_DELIVERY, "feature_agent.job.outcome"),
    ),
    Span(
        "webhook.attempt",
        "CLIENT",
        "One request to a callback URL.",
        (
            "http.request.method",
            "server.address",
            "http.response.status_code",
            "extraction.id",
            "feature_agent.webhook.id",
            "feature_agent.attempt",
            "error.type",
        ),
    ),
    Span(
        "invoke_agent planner",
        "INTERNAL",
        "One run of the agent, with all its requests; messages without their content.",
        (
            *_AGENT,
            "agent_name",
            "model_name",
            "gen_ai.aggregated_usage.input_tokens",
            "gen_ai.aggregated_usage.output_tokens",
            "gen_ai.aggregated_usage.cache_read.input_tokens",
            "gen_ai.aggregated_usage.details.reasoning_tokens",
            "pydantic_ai.all_messages",
            "pydantic_ai.new_message_index",
        ),
        "pydantic-ai",
    ),
    Span(
        "chat {model}",
        "CLIENT",
        "One request to the model as the agent sees it; repeated attempts are beneath it.",
        (
            *_AGENT,
            "gen_ai.provider.name",
            "gen_ai.system",
            "gen_ai.request.model",
            "gen_ai.request.max_tokens",
            "gen_ai.request.temperature",
            "gen_ai.response.id",
            "gen_ai.response.model",
            "gen_ai.response.finish_reasons",
            "gen_ai.input.messages",
            "gen_ai.output.messages",
            "gen_ai.usage.input_tokens",
            "gen_ai.usage.output_tokens",
            "gen_ai.usage.cache_read.input_tokens",
            "gen_ai.usage.details.reasoning_tokens",
            "operation.cost",
            "server.address",
            "server.port",
        ),
        "pydantic-ai",
    ),
    Span(
        "execute_tool {tool}",
        "INTERNAL",
        "The agent looks something up for the model.",
        (*_AGENT, "gen_ai.tool.name", "gen_ai.tool.call.id", "gen_ai.tool.type"),
        "pydantic-ai",
    ),
    *(
        Span(f"engine.{operation}", "INTERNAL", words, (*_ENGINE, *more))
        for operation, words, more in (
            ("ingest", "An upload is read, typed and profiled.", ()),
            ("rehearse", "A plan is tried on a sample.", ("feature_agent.features",)),
            ("compute", "A plan is computed.", ("feature_agent.features", "feature_agent.rows")),
            ("measure", "Computed features are measured.", ("feature_agent.features",)),
            ("export", "A feature table is written in another format.", ()),
        )
    ),
    Span(
        "{statement} {database}",
        "CLIENT",
        "One statement, without its parameters.",
        (*_DATABASE, "net.transport", "server.address", "server.port", "db.user"),
        "opentelemetry-instrumentation-sqlalchemy",
    ),
    Span("SELECT extractions", "CLIENT", "The status of an extraction is read, for many callers at once.", _DATABASE),
    Span(
        "EVALSHA",
        "CLIENT",
        "A request is counted, or a circuit breaker asked, in Redis, for many callers at once.",
        _DATABASE,
    ),
    Span(
        "{commands}",
        "CLIENT",
        "Commands to Redis, without their arguments.",
        (*_DATABASE, *_REDIS),
        "opentelemetry-instrumentation-redis",
    ),
    Span(
        "POST",
        "CLIENT",
        "One HTTP request to a model's provider.",
        (
            "http.request.method",
            "http.response.status_code",
            "error.type",
            "url.full",
            "server.address",
            "server.port",
            "network.peer.address",
            "network.peer.port",
            "network.protocol.version",
        ),
        "opentelemetry-instrumentation-httpx",
    ),
)

LOG_IDENTITY = ("timestamp", "level", "message", "logger", "service", "version", "environment")
"""On every line, first and in this order."""
LOG_CORRELATION = ("request_id", "user_id", "extraction_id", "trace_id", "span_id")
"""On lines of a request or job, where known."""
LOG_ACCESS = ("method", "endpoint", "path", "status", "duration_ms", "client")
"""On the access line of each request."""
LOG_EXCEPTION = "exception"
"""Object with `type, message, stack` and, if there is one, `cause`."""
LOG_FIELDS: dict[str, str] = {
    "address": "where the API listens, or a callback's host",
    "attempt": "which attempt at an extraction it is, from 1",
    "delivery_id": "a webhook's id",
    "dependency": "a dependency's name, as in `dependency_up`",
    "dropped": "how many spans were lost since the last such line",
    "duration_ms": "how long it took",
    "event_type": "the kind of an event of the domain",
    "exit_code": "how a worker ended; negative for a signal",
    "extraction_id": "the extraction that it is about",
    "failure_code": "an error's `error_code`",
    "files": "how many files a process may open",
    "fallback_model": "the model that took over",
    "http_status": "the status that a callback's server answered",
    "key_file": "the file that holds the development key",
    "label": "a metric's label",
    "lane": "the queue's lane, `small` or `large`",
    "limit": "a bound that was lowered",
    "metric": "a metric's name",
    "metrics": "where the metrics port answers",
    "model": "a configured model",
    "outcome": "what became of a webhook's try",
    "percent": "percentage of a budget that is spent",
    "pid": "a process's number",
    "principal": "whose budget it is",
    "quality_threshold": "the threshold that was asked for",
    "reason": "why, in a word of a closed set or a constant sentence",
    "reasons": "why connections were refused, as in `connections_refused_total`",
    "refused": "how many connections were refused since the last such line",
    "source": "the logger of the line that it is about",
    "stage": "a stage of an extraction",
    "state": "a circuit breaker's new state",
    "status": "how it ended",
    "unit": "what a budget counts, `tokens` or `usd`",
    "worker": "a worker process, from 1 to WORKERS",
}
"""Every other field that a line may have, and its meaning."""
