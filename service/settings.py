"""Typed settings: the only reader of the environment, of `.env`, and of mounted secret files.

Every name is its field in capitals (`database_url` is `DATABASE_URL`). A list is written with commas.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from platformdirs import user_data_path
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service.engines.selection import DEFAULT_ENGINE_URL, engine_options
from service.features.identity import MIN_JWT_SECRET_BYTES, ShareKind

MIN_WEBHOOK_SECRET_BYTES = 32

BUILTIN_MODEL = "builtin:planner"
"""The planner that needs no key and no network."""
MIB = 2**20
GIB = 2**30
PRODUCTION_DRAIN_SECONDS = 10.0
"""A Kubernetes probe every 5 s that has to fail twice."""

Names = Annotated[tuple[str, ...], NoDecode]
Port = Annotated[int, Field(ge=0, le=65_535)]


class SettingsError(ValueError):
    """The settings cannot be used; the message names every fault, each with its variable."""


class Settings(BaseSettings):
    """What the environment decides. Secrets are `SecretStr`: they show as asterisks wherever they are printed."""

    model_config = SettingsConfigDict(
        env_file=".env", extra="ignore", frozen=True, env_ignore_empty=True, hide_input_in_errors=True
    )

    environment: Literal["development", "test", "staging", "production"] = "development"
    debug: bool = False
    host: str = "127.0.0.1"
    port: Port = 8000
    """0 takes a free port."""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes that serve the API, kept by one more when there are several."""
    max_url_bytes: Annotated[int, Field(ge=256)] = 16_384
    max_header_bytes: Annotated[int, Field(ge=1024)] = 65_536
    """Of a request's line and header fields together."""
    max_headers: Annotated[int, Field(ge=10)] = 100
    """Header fields of a request."""
    header_timeout_seconds: Annotated[float, Field(gt=0)] = 10.0
    """From a connection, or from a request's first byte, to the end of its header."""
    min_body_bytes_per_second: Annotated[float, Field(ge=0)] = 1024.0
    """Mean of a body while the service reads it, after 10 s; 0 is no limit."""
    send_timeout_seconds: Annotated[float, Field(gt=0)] = 60.0
    """For which a client may take nothing of its answer."""
    max_connections: Annotated[int, Field(ge=1)] = 1000
    """Connections that a process has open at once; lower when it may open too few files."""
    max_connections_per_address: Annotated[int, Field(ge=0)] = 250
    """Of them, those of one address (of a network of 64 bits in IPv6); 0 is no limit, for a proxy that all share."""
    allowed_hosts: Names = ("localhost", "127.0.0.1", "[::1]")
    cors_origins: Names = ()

    database_url: SecretStr | None = None
    """None starts the embedded PostgreSQL in `data_dir`."""
    database_pool_size: Annotated[int, Field(ge=1)] = 10
    database_max_overflow: Annotated[int, Field(ge=0)] = 10
    database_pool_timeout: Annotated[float, Field(gt=0)] = 5.0
    """Seconds that a request waits for a connection before it is answered 503."""

    redis_url: SecretStr | None = None
    """None keeps rate limits in this process."""
    redis_password: SecretStr | None = None
    redis_db: Annotated[int, Field(ge=0)] = 0
    redis_max_connections: Annotated[int, Field(ge=1)] = 50

    primary_model: str = BUILTIN_MODEL
    fallback_model: str | None = None
    """Plans when the primary model cannot."""
    model_last_resort: Literal["builtin", "none"] = "none"
    """Whether `builtin:planner` plans when no other model can; the answer says so in `model.fallback`."""
    model_max_tokens: Annotated[int, Field(ge=256)] = 8192
    model_temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    model_timeout_seconds: Annotated[float, Field(gt=0)] = 60.0
    """For planning one request altogether: waiting for a place, every model, attempt and retry."""
    model_output_retries: Annotated[int, Field(ge=0, le=10)] = 3
    """How often a plan with faults is sent back to a model."""
    model_concurrency: Annotated[int, Field(ge=1)] = 16
    """Requests of this process that are planned at once."""
    model_queue: Annotated[int, Field(ge=0)] = 16
    """Requests that may wait for that; beyond it they are refused at once."""
    plan_cache_seconds: Annotated[int, Field(ge=0)] = 3600
    """How long a plan is served again for an equal request; 0 caches nothing."""
    plan_cache_entries: Annotated[int, Field(ge=1)] = 1000
    """Plans kept by this process; with Redis, all processes share the rest."""
    budget_tokens_per_day: Annotated[int, Field(ge=0)] = 0
    """Model tokens that a principal may spend a day (UTC); 0 is no limit."""
    budget_usd_per_day: Annotated[float, Field(ge=0)] = 0.0
    """US dollars that a principal may spend on models a day (UTC); 0 is no limit."""
    openai_api_key: SecretStr | None = None
    openai_base_url: str | None = None
    fallback_openai_api_key: SecretStr | None = None
    """For the fallback model, when it is at another OpenAI-compatible server; `openai_api_key` otherwise."""
    fallback_openai_base_url: str | None = None
    """Likewise; `openai_base_url` otherwise."""
    anthropic_api_key: SecretStr | None = None
    google_api_key: SecretStr | None = None

    prometheus_enabled: bool = True
    prometheus_port: Port = 8090
    jaeger_enabled: bool = False
    jaeger_endpoint: str = "http://localhost:4318"
    """Base address of an OTLP/HTTP collector."""
    trust_traceparent: bool = False
    """Whether a caller's `traceparent` is continued; only right behind a gateway that removes strangers' ones."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "console"] = "json"
    access_log_sample: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of successful, quick requests that get an access line; errors and slow ones always do."""
    trace_url: str | None = None
    """Template of the address of an extraction's trace, with `{trace_id}`: `http://localhost:16686/trace/{trace_id}`."""
    logs_url: str | None = None
    """Likewise of its log lines, with `{trace_id}`, `{extraction_id}`, and `{from}` and `{to}` in milliseconds."""
    dashboard_url: str | None = None
    """Likewise of the dashboard at that time."""

    jwt_secret: SecretStr | None = None
    """None makes one and keeps it in `data_dir` (not in production)."""
    jwt_algorithm: Literal["HS256", "HS384", "HS512"] = "HS256"
    api_key_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")] = "X-API-Key"
    rate_limit_per_minute: Annotated[int, Field(ge=0)] = 600
    """Requests a principal may make a minute; 0 is no limit."""
    failed_logins_per_minute: Annotated[int, Field(ge=0)] = 30
    """Invalid credentials of one address that are looked at in a minute, and at once; 0 is no limit."""
    max_uploads_per_principal: Annotated[int, Field(ge=0)] = 8
    """Uploads of a principal that a process takes at once; 0 is no limit, here and below."""
    max_downloads_per_principal: Annotated[int, Field(ge=0)] = 8
    max_streams_per_principal: Annotated[int, Field(ge=0)] = 10
    """Event streams."""
    max_waiting_per_principal: Annotated[int, Field(ge=0)] | None = None
    """Requests of a principal that wait for their extraction in a process; more are answered 202 at once. None is half
    of all that may wait (`model_concurrency` and `model_queue`)."""

    artifacts_url: str | None = None
    """None keeps artifacts in `data_dir/artifacts`."""
    engine_url: str = DEFAULT_ENGINE_URL
    """The engine, and its options, which it reads itself (`engines/selection.py`)."""
    extraction_timeout_seconds: Annotated[float, Field(gt=0)] = 900.0
    """For one run of an extraction, from its claim by a worker to its features; its completion date bounds it too."""
    retention_days: Annotated[int, Field(ge=0)] = 30
    """Days that ended extractions and their tables are kept; 0 keeps them."""
    webhook_secret: SecretStr | None = None
    """What each principal's signing secret is derived from, at least 32 bytes; several with commas between, newest
    first, while one replaces another. None makes one in `data_dir` in development; elsewhere none are sent then."""
    webhook_allow_private: bool = False
    """Whether webhooks may go to loopback and private networks."""
    webhook_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 15.0
    """For one try to deliver a webhook altogether."""
    sync_wait_seconds: Annotated[float, Field(gt=0, le=300)] = 25.0
    worker_in_api: bool = True
    """Whether `serve` runs extractions as well; otherwise `feature-agent worker` does, in processes of its own."""
    worker_concurrency: Annotated[int, Field(ge=1)] = 8
    """Small extractions that a worker runs at once; beside them it runs one large one."""
    worker_grace_seconds: Annotated[float, Field(ge=0)] = 25.0
    """For running extractions to end once a worker is asked to stop; then they are handed back."""
    drain_seconds: Annotated[float, Field(ge=0)] | None = None
    """How long `serve` goes on taking requests after SIGTERM, while its readiness has fallen: long enough for every
    balancer to have seen that. None is 10 in staging and production and 0 elsewhere."""
    max_upload_bytes: Annotated[int, Field(ge=1)] = 1024 * MIB
    max_rows: Annotated[int, Field(ge=1)] = 100_000_000
    """Rows of a dataset."""
    max_cells: Annotated[int, Field(ge=1)] = 2_000_000_000
    """Cells of a dataset: its rows times its columns."""
    max_datasets: Annotated[int, Field(ge=0)] = 1000
    """Datasets that a principal may keep; 0 is no limit."""
    max_stored_bytes: Annotated[int, Field(ge=0)] = 100 * GIB
    """Bytes that a principal's datasets and feature tables may take together; 0 is no limit."""
    data_dir: Path = Field(default_factory=lambda: user_data_path("feature-agent"))

    @field_validator("allowed_hosts", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults = [*self._general_faults(), *(self._production_faults() if self.environment == "production" else ())]
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def _general_faults(self) -> list[str]:
        faults: list[str] = []
        if self.workers > 1 and self.rate_limit_per_minute and self.redis_url is None:
            faults.append(
                "WORKERS above 1 needs REDIS_URL, or RATE_LIMIT_PER_MINUTE=0: each would count requests for itself"
            )
        least = MIN_JWT_SECRET_BYTES[self.jwt_algorithm]
        if self.jwt_secret and len(self.jwt_secret.get_secret_value().encode()) < least:
            faults.append(f"JWT_SECRET has fewer than the {least} bytes that {self.jwt_algorithm} needs")
        if any(len(secret.encode()) < MIN_WEBHOOK_SECRET_BYTES for secret in self.webhook_secrets()):
            faults.append(f"WEBHOOK_SECRET has a secret of fewer than {MIN_WEBHOOK_SECRET_BYTES} bytes")
        templates = {"TRACE_URL": self.trace_url, "LOGS_URL": self.logs_url, "DASHBOARD_URL": self.dashboard_url}
        faults += [
            f"{name} must begin with http:// or https://"
            for name, template in templates.items()
            if template is not None and not template.startswith(("http://", "https://"))
        ]
        try:
            engine_options(self.engine_url)
        except ValueError as error:
            faults.append(str(error))
        return faults

    def _production_faults(self) -> list[str]:
        checks = {
            "JWT_SECRET is not set": self.jwt_secret is None,
            "DEBUG is true": self.debug,
            "ALLOWED_HOSTS has a wildcard": "*" in self.allowed_hosts,
            "CORS_ORIGINS has a wildcard": "*" in self.cors_origins,
            "DATABASE_URL is not set: the embedded database is for development": self.database_url is None,
        }
        return [fault for fault, found in checks.items() if found]

    @property
    def metrics_on_api_port(self) -> bool:
        """Whether the API's port serves the metrics too: anybody who reaches it could ask for them again and again."""
        return self.prometheus_enabled and self.environment in {"development", "test"}

    def shares(self) -> dict[ShareKind, int]:
        """How many requests of each kind a principal may have open in a process; 0 is no limit."""
        waiting = self.max_waiting_per_principal
        return {
            "upload": self.max_uploads_per_principal,
            "download": self.max_downloads_per_principal,
            "stream": self.max_streams_per_principal,
            "wait": max(1, self.waiting_clients() // 2) if waiting is None else waiting,
        }

    def waiting_clients(self) -> int:
        """How many requests may wait for their extraction in a process."""
        return self.model_concurrency + self.model_queue

    def seconds_to_drain(self) -> float:
        """How long `serve` is to be found by balancers after SIGTERM."""
        if self.drain_seconds is not None:
            return self.drain_seconds
        return PRODUCTION_DRAIN_SECONDS if self.environment in {"staging", "production"} else 0.0

    def model_names(self) -> tuple[str, ...]:
        """The models that may plan, in the order in which they are asked, each once."""
        last_resort = BUILTIN_MODEL if self.model_last_resort == "builtin" else None
        named = (self.primary_model, self.fallback_model, last_resort)
        return tuple(dict.fromkeys(name for name in named if name))

    def webhook_secrets(self) -> tuple[str, ...]:
        """The deployment's secrets for webhooks, newest first; none when none is set."""
        given = self.webhook_secret.get_secret_value() if self.webhook_secret else ""
        return tuple(secret.strip() for secret in given.split(",") if secret.strip())


def load_settings(**overrides: Any) -> Settings:
    """Read the settings from the environment, `.env` and `SECRETS_DIR`; `overrides` win.

    Raises SettingsError with every fault on one line; no value is repeated, since it may be a secret.
    """
    secrets = os.environ.get("SECRETS_DIR")
    sources: dict[str, Any] = {"_secrets_dir": secrets} if secrets else {}
    try:
        return Settings(**sources, **overrides)
    except ValidationError as error:
        raise SettingsError("; ".join(_faults(error, sources, overrides))) from None


def _faults(error: ValidationError, sources: dict[str, Any], overrides: dict[str, Any]) -> list[str]:
    """All faults: with a bad field the checks across fields do not run, so they run again on that field's default."""
    faults = error.errors()
    fields = {str(fault["loc"][0]) for fault in faults if fault["loc"]}
    found = [_fault(fault["loc"], fault["msg"]) for fault in faults]
    if fields:
        defaults = {name: Settings.model_fields[name].get_default(call_default_factory=True) for name in fields}
        try:
            Settings(**sources, **overrides | defaults)
        except ValidationError as rest:
            found += [_fault(fault["loc"], fault["msg"]) for fault in rest.errors()]
    return found


def _fault(location: tuple[int | str, ...], message: str) -> str:
    words = message.removeprefix("Value error, ")
    return f"{'.'.join(str(part) for part in location).upper()}: {words}" if location else words
