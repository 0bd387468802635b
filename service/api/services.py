"""What the API is handed by its composition root: services to call and plain configuration values."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from litestar import Litestar
from litestar.di import NamedDependency
from litestar.params import SkipValidation
from litestar.types import ASGIApp
from msgspec import Struct

from service.api.feed import StateFeed
from service.api.observability_links import Links, ObservabilityLinks
from service.extractions.repeat import RepeatExtraction
from service.features.datasets import UploadDataset
from service.features.extract import AcceptExtraction
from service.features.model import Extraction
from service.features.ports import Artifacts, Budgets, Clock, Observer, Reader
from service.features.quotas import StorageQuotas
from service.features.stores import JobQueue, Notices, Store
from service.security.authenticator import Authenticator
from service.security.guesses import GuessLimiter
from service.security.limits import RateLimiter
from service.security.shares import Shares
from service.webhooks.callbacks import CallbackPolicy

Dependency = Literal["database", "redis", "ai_model"]
DEPENDENCIES: tuple[Dependency, ...] = ("database", "redis", "ai_model")


class Lifecycle(Protocol):
    """How far the process has come in its life."""

    @property
    def ready(self) -> bool:
        """Everything is open."""
        ...

    @property
    def draining(self) -> bool:
        """The process was asked to stop: new traffic belongs elsewhere."""
        ...

    @property
    def alive(self) -> bool:
        """The process need not be replaced."""
        ...


class HealthCheck(Struct, frozen=True):
    """One dependency that can be asked whether it answers."""

    name: Dependency
    ping: Callable[[], Awaitable[object]]
    """Raises when the dependency is away; its value does not matter."""
    critical: bool
    """Whether the service is of no use without it; otherwise its absence only degrades."""


@dataclass(frozen=True, kw_only=True)
class ApiServices:
    """Everything that routes call; opened and closed by the composition root."""

    store: Store
    artifacts: Artifacts
    reader: Reader
    upload: UploadDataset
    quotas: StorageQuotas
    budgets: Budgets
    accept: AcceptExtraction
    queue: JobQueue
    repeat: RepeatExtraction
    notices: Notices
    feed: StateFeed
    authenticator: Authenticator
    guesses: GuessLimiter
    limiter: RateLimiter
    shares: Shares
    observer: Observer
    clock: Clock
    lifecycle: Lifecycle
    callbacks: CallbackPolicy
    """Which addresses a `callback_url` may name."""
    webhook_secrets: Callable[[str], Sequence[str]]
    """A principal's secrets for verifying webhooks, newest first."""
    observability_links: ObservabilityLinks = field(default_factory=ObservabilityLinks)
    health_checks: Sequence[HealthCheck] = ()
    """Dependencies that are not named here are answered as "disabled"."""
    metrics: ASGIApp | None = None
    """Served at /metrics; None answers 404 there, which says where they are."""
    lifespan: Sequence[Callable[[Litestar], AbstractAsyncContextManager[None]]] = ()
    """Entered in order on start-up and left in reverse, after the last answer."""

    def links(self, extraction: Extraction) -> Links:
        """Where else the extraction can be looked at."""
        return self.observability_links.links(extraction, self.clock.now())


@dataclass(frozen=True, kw_only=True)
class ApiConfig:
    """Values that shape the API."""

    version: str
    allowed_hosts: tuple[str, ...] = ("*",)
    """Host names without port; `*.example.org` stands for every name below, `*` for any."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may call; `*` for any."""
    api_key_header: str = "X-API-Key"
    max_upload_bytes: int = 100_000_000
    max_rows: int = 100_000_000
    max_cells: int = 2_000_000_000
    budget_tokens_per_day: int = 0
    """0 is no limit, as for dollars."""
    budget_usd_per_day: float = 0.0
    sync_wait_seconds: float = 25.0
    """How long a request for features waits for them, at most."""
    waiting_clients: int = 1000
    """Clients that may wait for their extraction at once."""
    token_lifetime_seconds: int = 1800
    docs_enabled: bool = True
    """Whether the schema and its two pages are served."""


Services = NamedDependency[SkipValidation[ApiServices]]
"""Annotation by which a route asks for the services."""

Config = NamedDependency[SkipValidation[ApiConfig]]
"""Annotation by which a route asks for the configuration."""
