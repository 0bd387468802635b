"""The seed design, as plain as it was first written down.

FastAPI with CORS, trusted hosts and one `http` middleware that sets the request's id, its time and two metrics; a token
verified on each request; an extraction's state pickled in Redis, read with the sync client from coroutines. It keeps no
rows, has no rate limit, writes no line of its own and computes no features: what the model proposes is its answer.
uvicorn serves it as its command line does by default, access log included.

With `SEED_TRACES=true` FastAPI's own instrumentation is put on, sampled as `OTEL_TRACES_SAMPLER` says. With
`SEED_CACHE=true` the agent is behind the design's cache decorator, which the design itself puts on nothing.
PyJWT stands for python-jose, which verifies as fast.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import time
import uuid
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Annotated, Any, Literal

import jwt
import uvicorn
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request, Response, Security
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import Counter, Histogram, generate_latest
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from redis import Redis, RedisError

JWT_SECRET = os.environ["SEED_JWT_SECRET"]
REQUEST_COUNT = Counter("api_requests_total", "Total API requests", ["method", "endpoint", "status"])
REQUEST_DURATION = Histogram("api_request_duration_seconds", "API request duration")
STATE_SECONDS = 86_400
"""The design's 300 s would end within a run."""

_LOG = logging.getLogger(__name__)
redis_client = Redis.from_url(os.environ["SEED_REDIS_URL"])
security = HTTPBearer()
app = FastAPI(title="seed", docs_url="/api/docs", redoc_url="/api/redoc", openapi_url="/api/openapi.json")
app.add_middleware(
    CORSMiddleware,
    allow_origins=["https://dashboard.company.com", "https://api.company.com"],
    allow_credentials=True,
    allow_methods=["GET", "POST", "PUT", "DELETE"],
    allow_headers=["*"],
)
app.add_middleware(TrustedHostMiddleware, allowed_hosts=["api.company.com", "*.company.com", "127.0.0.1"])


class CacheManager:
    """Pickles in Redis."""

    def __init__(self, client: Redis, default_ttl: int = STATE_SECONDS) -> None:
        self.redis = client
        self.default_ttl = default_ttl

    def cache_key(self, func_name: str, *args: Any, **kwargs: Any) -> str:
        """The key of a call."""
        key_data = f"{func_name}:{args}:{sorted(kwargs.items())}"
        return hashlib.md5(key_data.encode(), usedforsecurity=False).hexdigest()

    async def get(self, key: str) -> Any:
        """What is kept; None for nothing."""
        try:
            data = self.redis.get(key)
            return pickle.loads(data) if data else None  # noqa: S301 -- the design that is measured does so
        except RedisError:
            _LOG.exception("Cache get failed")
            return None

    async def set(self, key: str, value: Any, ttl: int | None = None) -> None:
        """Keep it."""
        try:
            self.redis.setex(key, ttl or self.default_ttl, pickle.dumps(value))
        except RedisError:
            _LOG.exception("Cache set failed")

    def cached(self, ttl: int | None = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Keep what a function returns."""

        def decorator(func: Callable[..., Any]) -> Callable[..., Any]:
            @wraps(func)
            async def wrapper(*args: Any, **kwargs: Any) -> Any:
                key = self.cache_key(func.__name__, *args, **kwargs)
                found = await self.get(key)
                if found is not None:
                    return found
                result = await func(*args, **kwargs)
                await self.set(key, result, ttl or self.default_ttl)
                return result

            return wrapper

        return decorator


cache_manager = CacheManager(redis_client)


async def get_current_user(credentials: Annotated[HTTPAuthorizationCredentials, Security(security)]) -> dict[str, Any]:
    """Whom the token speaks for."""
    try:
        payload = jwt.decode(credentials.credentials, JWT_SECRET, algorithms=["HS256"], audience="seed")
    except jwt.PyJWTError:
        raise HTTPException(401, "Invalid authentication credentials", {"WWW-Authenticate": "Bearer"}) from None
    return {"user_id": payload.get("sub"), "auth_type": "jwt"}


CurrentUser = Annotated[dict[str, Any], Depends(get_current_user)]


@app.middleware("http")
async def add_process_time_header(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Time, identify and count."""
    start_time = time.time()
    request_id = str(uuid.uuid4())
    request.state.request_id = request_id
    response = await call_next(request)
    process_time = time.time() - start_time
    response.headers["X-Process-Time"] = str(process_time)
    response.headers["X-Request-ID"] = request_id
    REQUEST_DURATION.observe(process_time)
    REQUEST_COUNT.labels(method=request.method, endpoint=request.url.path, status=response.status_code).inc()
    return response


class PlannedFeature(BaseModel):
    """A proposed feature."""

    name: str
    description: str
    operation: dict[str, Any]


class Plan(BaseModel):
    """What the model answers."""

    grain: Literal["row", "entity"]
    entity: str | None = None
    features: list[PlannedFeature]
    steps: list[str] = []


class FeatureExtractionRequest(BaseModel):
    """Body of an extraction request."""

    dataset_id: str
    feature_description: str
    quality_threshold: Literal["low", "medium", "high"] = "medium"


agent = Agent(
    OpenAIChatModel("good", provider=OpenAIProvider(base_url=os.environ["OPENAI_BASE_URL"], api_key="none")),
    output_type=Plan,
    instructions="Propose machine-learning features for the described dataset.",
)


async def process_feature_request(request: FeatureExtractionRequest) -> dict[str, Any]:
    """Ask the model, and keep that it is done."""
    extraction_id = uuid.uuid4().hex
    result = await agent.run(f"{request.dataset_id}: {request.feature_description}")
    await cache_manager.set(f"extraction:{extraction_id}", {"status": "completed", "progress": 100})
    data = {"extraction_id": extraction_id, **result.output.model_dump()}
    return {"success": True, "data": data, "request_id": extraction_id}


process = process_feature_request
if os.environ.get("SEED_CACHE") == "true":
    process = cache_manager.cached()(process_feature_request)


async def check_user_permissions(_user_id: str, _permission: str) -> bool:
    """Everybody may."""
    return True


async def notify_completion(_user_id: str, _request_id: str) -> None:
    """Tells nobody."""


@app.post("/api/v1/extract-features", response_model=dict)
async def extract_features(
    request: FeatureExtractionRequest, background_tasks: BackgroundTasks, current_user: CurrentUser
) -> dict[str, Any]:
    """Ask the model and answer with what it says."""
    if not await check_user_permissions(current_user["user_id"], "feature_extraction"):
        raise HTTPException(403, "Insufficient permissions for feature extraction")
    result = await process(request)
    background_tasks.add_task(notify_completion, current_user["user_id"], result["request_id"])
    return {
        "status": "success",
        "data": result["data"],
        "request_id": result["request_id"],
        "processing_time": result.get("processing_time", 0),
    }


@app.get("/api/v1/extraction/{extraction_id}/status")
async def get_extraction_status(extraction_id: str, current_user: CurrentUser) -> dict[str, Any]:  # noqa: ARG001 -- it must be known
    """How far it has come."""
    status_data = await cache_manager.get(f"extraction:{extraction_id}")
    if not status_data:
        raise HTTPException(404, f"Extraction job {extraction_id} not found")
    return {
        "extraction_id": extraction_id,
        "status": status_data["status"],
        "progress": status_data.get("progress", 0),
        "estimated_completion": status_data.get("estimated_completion"),
        "error_message": status_data.get("error_message"),
    }


@app.get("/health")
async def health_check() -> dict[str, str]:
    """Alive."""
    return {"status": "healthy"}


@app.get("/metrics")
async def metrics() -> Response:
    """All series."""
    return Response(generate_latest(), media_type="text/plain")


def trace_requests() -> None:
    """FastAPI's instrumentation as its documentation puts it on."""
    provider = TracerProvider(resource=Resource.create({"service.name": "seed"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    FastAPIInstrumentor.instrument_app(app)


if __name__ == "__main__":
    if os.environ.get("SEED_TRACES") == "true":
        trace_requests()
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]))
