"""Datasets and extractions as SQLAlchemy models, and the sync Redis client."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from redis import Redis
from sqlalchemy import JSON, DateTime, ForeignKey, String
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

WINDOW_SECONDS = 60


class Base(DeclarativeBase):
    """Of all tables."""


class Dataset(Base):
    """An uploaded file and what its columns are."""

    __tablename__ = "seed_datasets"

    id: Mapped[str] = mapped_column(String, primary_key=True)
    owner: Mapped[str] = mapped_column(String, index=True)
    path: Mapped[str]
    row_count: Mapped[int]
    columns: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=lambda: datetime.now(UTC))


class Extraction(Base):
    """A request and what came of it."""

    __tablename__ = "seed_extractions"

    id: Mapped[str] = mapped_column(String, primary_key=True)
    owner: Mapped[str] = mapped_column(String, index=True)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("seed_datasets.id"))
    feature_description: Mapped[str]
    status: Mapped[str]
    progress: Mapped[int]
    error_message: Mapped[str | None]
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=lambda: datetime.now(UTC))
    finished_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


async def create_tables(engine: AsyncEngine) -> None:
    """Make what is missing."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)


def within_limit(redis: Redis, principal: str, limit: int) -> bool:
    """Count one request of the principal in its present minute."""
    key = f"rate:{principal}"
    pipeline = redis.pipeline()
    pipeline.incr(key)
    pipeline.expire(key, WINDOW_SECONDS, nx=True)
    count, _ = pipeline.execute()
    return int(count) <= limit
