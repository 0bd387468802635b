"""The seed design: FastAPI, http middlewares, JWT verified on each request, SQLAlchemy's ORM, sync Redis, pydantic-ai.

It keeps its extractions in PostgreSQL; with `SEED_STATE=redis` their states are read from Redis instead, which is
cheaper, and less than durable. It computes no features: what the model proposes is its answer.
"""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import duckdb
import jwt
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response, status
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field
from pydantic_ai import Agent
from pydantic_ai.capabilities import Instrumentation
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from redis import Redis
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from starlette.concurrency import run_in_threadpool

from loadtest.benchmarks.api.seed import telemetry
from loadtest.benchmarks.api.seed.storage import Dataset, Extraction, create_tables, within_limit

JWT_SECRET = os.environ["SEED_JWT_SECRET"]
RATE_LIMIT = int(os.environ.get("SEED_RATE_LIMIT", "1000000000"))
STATE_IN_REDIS = os.environ.get("SEED_STATE") == "redis"

engine = create_async_engine(os.environ["SEED_DATABASE_URL"], pool_size=10, max_overflow=10, pool_pre_ping=True)
Sessions = async_sessionmaker(engine, expire_on_commit=False)
redis = Redis.from_url(os.environ["SEED_REDIS_URL"], decode_responses=True)
bearer = HTTPBearer()
files = Path(tempfile.mkdtemp(prefix="seed-"))


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


class ExtractRequest(BaseModel):
    """Body of an extraction request."""

    dataset_id: str = Field(min_length=1, max_length=100)
    feature_description: str = Field(min_length=5)
    quality_threshold: Literal["low", "medium", "high"] = "medium"


class ExtractionOut(BaseModel):
    """A finished extraction."""

    extraction_id: str
    dataset_id: str
    status: str
    features: list[PlannedFeature]
    feature_pipeline_steps: list[str]
    input_tokens: int
    output_tokens: int


class StatusOut(BaseModel):
    """How far an extraction has come."""

    extraction_id: str
    status: str
    progress: int
    estimated_completion: datetime | None
    error_message: str | None


class Envelope(BaseModel):
    """Around every answer."""

    status: Literal["success"] = "success"
    data: ExtractionOut | StatusOut | dict[str, Any]
    request_id: str


agent = Agent(
    OpenAIChatModel("good", provider=OpenAIProvider(base_url=os.environ["OPENAI_BASE_URL"], api_key="none")),
    output_type=Plan,
    instructions="Propose machine-learning features for the described dataset.",
    capabilities=[Instrumentation()],
)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Make the tables, and close the connections at the end."""
    await create_tables(engine)
    yield
    await engine.dispose()


app = FastAPI(title="seed", lifespan=lifespan)


def principal(credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)]) -> str:
    """Whom the token speaks for."""
    try:
        claims = jwt.decode(credentials.credentials, JWT_SECRET, algorithms=["HS256"], audience="seed")
    except jwt.PyJWTError as error:
        raise HTTPException(status.HTTP_401_UNAUTHORIZED, "The token is not valid.") from error
    return str(claims["sub"])


async def session() -> AsyncIterator[AsyncSession]:
    """One session a request."""
    async with Sessions() as opened:
        yield opened


Principal = Annotated[str, Depends(principal)]
Session = Annotated[AsyncSession, Depends(session)]


@app.middleware("http")
async def limit_rate(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """At most so many requests a minute from one client."""
    client = request.headers.get("authorization", request.client.host if request.client else "")
    if request.url.path.startswith("/api") and not within_limit(redis, client[-32:], RATE_LIMIT):
        return JSONResponse({"detail": "Too many requests."}, status_code=429, headers={"Retry-After": "60"})
    return await call_next(request)


telemetry.observe(app)
telemetry.configure_logging()
telemetry.instrument(app, engine)


@app.get("/health")
async def health() -> dict[str, str]:
    """Alive."""
    return {"status": "healthy"}


@app.post("/api/v1/datasets", status_code=201)
async def upload(request: Request, dataset_id: str, owner: Principal, db: Session) -> Envelope:
    """Keep a CSV and look at its columns."""
    path = files / f"{uuid.uuid4().hex}.csv"
    with path.open("wb") as file:
        async for chunk in request.stream():
            file.write(chunk)
    row_count, columns = await run_in_threadpool(_summary, path)
    db.add(Dataset(id=dataset_id, owner=owner, path=str(path), row_count=row_count, columns=columns))
    await db.commit()
    data = {"dataset_id": dataset_id, "row_count": row_count, "columns": columns}
    return Envelope(data=data, request_id=telemetry.request_id_var.get())


def _summary(path: Path) -> tuple[int, list[dict[str, Any]]]:
    with duckdb.connect() as connection:
        found = connection.execute("SUMMARIZE SELECT * FROM read_csv(?)", [str(path)]).fetchall()
        counted = connection.execute("SELECT count(*) FROM read_csv(?)", [str(path)]).fetchone()
    columns = [{"name": row[0], "type": row[1], "distinct": row[4], "null_percentage": float(row[11])} for row in found]
    return int(counted[0]) if counted else 0, columns


@app.post("/api/v1/extract-features")
async def extract_features(body: ExtractRequest, owner: Principal, db: Session) -> Envelope:
    """Ask the model, keep what it says, answer with it."""
    dataset = await db.get(Dataset, body.dataset_id)
    if dataset is None or dataset.owner != owner:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "You have no such dataset.")
    prompt = json.dumps({"description": body.feature_description, "columns": dataset.columns})
    result = await agent.run(prompt)
    plan, usage = result.output, result.usage
    extraction = Extraction(
        id=uuid.uuid4().hex,
        owner=owner,
        dataset_id=dataset.id,
        feature_description=body.feature_description,
        status="completed",
        progress=100,
        result=plan.model_dump(),
        finished_at=datetime.now(UTC),
    )
    db.add(extraction)
    await db.commit()
    _keep_state(extraction)
    out = ExtractionOut(
        extraction_id=extraction.id,
        dataset_id=dataset.id,
        status="completed",
        features=plan.features,
        feature_pipeline_steps=plan.steps,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
    )
    return Envelope(data=out, request_id=telemetry.request_id_var.get())


def _keep_state(extraction: Extraction) -> None:
    state = {
        "owner": extraction.owner,
        "status": extraction.status,
        "progress": extraction.progress,
        "finished_at": extraction.finished_at.isoformat() if extraction.finished_at else "",
        "error_message": extraction.error_message or "",
    }
    redis.hset(f"extraction:{extraction.id}", mapping=state)


@app.get("/api/v1/extraction/{extraction_id}/status")
async def extraction_status(extraction_id: str, owner: Principal, db: Session) -> Envelope:
    """How far it has come."""
    out = _state_in_redis(extraction_id, owner) if STATE_IN_REDIS else await _state(db, extraction_id, owner)
    if out is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "You have no such extraction.")
    return Envelope(data=out, request_id=telemetry.request_id_var.get())


async def _state(db: AsyncSession, extraction_id: str, owner: str) -> StatusOut | None:
    row = await db.get(Extraction, extraction_id)
    if row is None or row.owner != owner:
        return None
    return StatusOut(
        extraction_id=row.id,
        status=row.status,
        progress=row.progress,
        estimated_completion=row.finished_at,
        error_message=row.error_message,
    )


def _state_in_redis(extraction_id: str, owner: str) -> StatusOut | None:
    state = redis.hgetall(f"extraction:{extraction_id}")
    if not state or state["owner"] != owner:
        return None
    return StatusOut(
        extraction_id=extraction_id,
        status=state["status"],
        progress=int(state["progress"]),
        estimated_completion=datetime.fromisoformat(state["finished_at"]) if state["finished_at"] else None,
        error_message=state["error_message"] or None,
    )


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), access_log=False, log_config=None)
