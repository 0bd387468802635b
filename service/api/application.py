"""Assemble the HTTP API from services and configuration."""

from __future__ import annotations

from collections.abc import Sequence

from litestar import Litestar, Router, asgi
from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.di import Provide
from litestar.enums import HttpMethod, ScopeType
from litestar.handlers import ASGIRouteHandler
from litestar.types import ASGIApp, ControllerRouterHandler, Receive, Scope, Send

from service.api.auth_routes import create_token
from service.api.authentication import Authentication
from service.api.dataset_routes import change_dataset, delete_dataset, get_dataset, list_datasets, upload_dataset
from service.api.decoding import MAX_JSON_BYTES, ApiRequest, refuse_unknown_parameters
from service.api.documentation import get_asset, get_problem_type, list_problem_types, openapi_config
from service.api.errors import RouteNotFound
from service.api.event_routes import stream_events
from service.api.extract_routes import ExtractDependencies, extract_features
from service.api.extraction_routes import (
    delete_extraction,
    get_extraction,
    get_extraction_status,
    list_extractions,
)
from service.api.failures import observe_failures
from service.api.guards import authorize, share
from service.api.headers import EXPOSED, READ, finishing
from service.api.health_routes import get_health, get_liveness, get_readiness
from service.api.hosts import AllowedHosts
from service.api.limits import RateLimit
from service.api.problems import answer_problem
from service.api.rendering import StructResponse
from service.api.services import ApiConfig, ApiServices
from service.api.table_routes import download_features
from service.api.usage_routes import get_usage
from service.api.webhook_routes import get_webhook_secrets, list_webhook_deliveries
from service.planning.load_shedder import LoadShedder
from service.webhooks.links import BASE

PUBLIC_ROUTES = (get_health, get_liveness, get_readiness, list_problem_types, get_problem_type)
PROTECTED_ROUTES = (
    create_token,
    upload_dataset,
    list_datasets,
    get_dataset,
    change_dataset,
    delete_dataset,
    extract_features,
    get_extraction,
    get_extraction_status,
    stream_events,
    delete_extraction,
    download_features,
    list_extractions,
    list_webhook_deliveries,
    get_webhook_secrets,
    get_usage,
)


def create_api(services: ApiServices, config: ApiConfig) -> Litestar:
    """Create the application: health, metrics and documentation are public, everything below /api/v1 needs a principal.

    Wrap it in the HTTP observer, which sets the correlation context that answers and problem documents quote.
    """
    extract_dependencies = ExtractDependencies(services, config, LoadShedder(config.waiting_clients, services.observer))
    return Litestar(
        route_handlers=[_protected(services, config), *_public(services, config)],
        dependencies={
            "services": Provide(lambda: services, sync_to_thread=False),
            "config": Provide(lambda: config, sync_to_thread=False),
            "extract_dependencies": Provide(lambda: extract_dependencies, sync_to_thread=False),
        },
        state=State({"services": services}, deep_copy=False),
        middleware=[AllowedHosts(config.allowed_hosts)],
        exception_handlers={Exception: answer_problem},
        after_exception=[observe_failures(services.observer)],
        before_request=refuse_unknown_parameters,
        before_send=[finishing(services.lifecycle)],
        cors_config=_cross_origin(config),
        lifespan=[*services.lifespan],
        logging_config=None,
        openapi_config=openapi_config(config.version, config.api_key_header) if config.docs_enabled else None,
        request_class=ApiRequest,
        response_class=StructResponse,
        request_max_body_size=MAX_JSON_BYTES,
    )


def _protected(services: ApiServices, config: ApiConfig) -> Router:
    """Create the router of the versioned API: authentication, then rate limit, permission, and the principal's share.

    It is one function, because the framework deep-copies a router and would copy the services in a middleware object;
    functions are not copied.
    """
    authentication = Authentication(services.authenticator, services.guesses, config.api_key_header)
    limit = RateLimit(services.limiter, services.observer)

    def protected(app: ASGIApp) -> ASGIApp:
        async def admit(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != ScopeType.HTTP or scope["method"] == HttpMethod.OPTIONS:
                await app(scope, receive, send)
                return
            await authentication.identify(scope)
            await limit.count(scope)
            authorize(scope)
            with share(scope, services.shares):  # until the answer's last byte, or the client's disconnect
                await app(scope, receive, send)

        return admit

    return Router(
        BASE,
        route_handlers=PROTECTED_ROUTES,
        middleware=[protected],
        security=[{"bearer": []}, {"apiKey": []}],
    )


def _public(services: ApiServices, config: ApiConfig) -> Sequence[ControllerRouterHandler]:
    routes: list[ControllerRouterHandler] = list(PUBLIC_ROUTES)
    if config.docs_enabled:
        routes.append(get_asset)
    return [*routes, _metrics(services.metrics or _metrics_elsewhere)]


def _metrics(exposition: ASGIApp) -> ASGIRouteHandler:
    @asgi("/metrics", copy_scope=True)
    async def metrics(scope: Scope, receive: Receive, send: Send) -> None:
        await exposition(scope, receive, send)

    return metrics


async def _metrics_elsewhere(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise RouteNotFound("Metrics are served on the metrics port only (PROMETHEUS_PORT), where they are enabled.")


def _cross_origin(config: ApiConfig) -> CORSConfig | None:
    if not config.cors_origins:
        return None
    return CORSConfig(
        allow_origins=list(config.cors_origins),
        allow_methods=["GET", "POST", "PATCH", "DELETE"],
        allow_headers=[*READ, config.api_key_header],
        expose_headers=list(EXPOSED),
    )
