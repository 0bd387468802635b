"""Webhooks come to a database that the release before them uses, with everything in it."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from alembic import command

from tests.integration.test_migrations import go, open_at, rows

FILL_0003 = """
INSERT INTO datasets VALUES ('ann', 'sales', 'text/csv', 10, 'datasets/x.parquet', '{"row_count": 1}', now());
INSERT INTO extractions (
    id, owner, dataset_id, request, status, created_at, progress, stage, started_at, finished_at, result, failure,
    request_id, trace_id, lane, due_at, patient, cancel_requested, attempt, crashes, retries, version
) VALUES
    ('queued', 'ann', 'sales', '{"dataset_id": "sales", "feature_description": "spend"}', 'queued', now(), 0, NULL,
     NULL, NULL, NULL, NULL, 'r1', 't1', 'small', NULL, true, false, 0, 0, 0, 0),
    ('running', 'ann', 'sales', '{"dataset_id": "sales", "feature_description": "spend"}', 'processing', now(), 40,
     'compute', now(), NULL, NULL, NULL, 'r2', 't2', 'large', now() + interval '1 day', false, false, 2, 1, 0, 7),
    ('done', 'bob', 'sales', '{"dataset_id": "sales", "feature_description": "spend"}', 'failed', now(), 100, NULL,
     now(), now(), NULL, '{"code": "c", "category": "internal", "message": "m", "retryable": false}', 'r3', 't3',
     'small', NULL, true, true, 3, 3, 0, 9);
INSERT INTO idempotency_keys VALUES ('ann', 'k', sha256('x'), 'queued', now(), 200, '{"a": "b"}', 'body');
INSERT INTO api_keys VALUES ('k1', 'ann', sha256('secret'), ARRAY['admin'], now());
INSERT INTO model_spending VALUES ('ann', '2026-03-01', 1, 2, 0.25, 0, now());
INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now());
INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, args, status, worker_id, attempts)
VALUES
    ('small', 'extract_features', -3, 'queued', 'queued', '{"extraction_id": "queued"}', 'todo', NULL, 0),
    ('large', 'extract_features', 0, 'running', 'running', '{"extraction_id": "running"}', 'doing', 1, 1),
    ('small', 'extract_features', 0, 'later', 'later', '{"extraction_id": "later"}', 'todo', NULL, 0);
UPDATE procrastinate_jobs SET scheduled_at = now() + interval '1 hour' WHERE lock = 'later';
"""
"""A database of revision 0003 in full use: waiting, running and ended extractions, with jobs of every kind."""
TABLES_OF_0003 = (
    "datasets", "extractions", "idempotency_keys", "api_keys", "model_spending",
    "procrastinate_jobs", "procrastinate_workers", "procrastinate_events",
)  # fmt: skip
STATEMENTS_OF_0003 = {
    "claim": """
        UPDATE extractions SET version = version + 1, status = 'processing', attempt = attempt + 1,
            crashes = crashes + CASE WHEN status = 'processing' THEN 1 ELSE 0 END,
            started_at = coalesce(started_at, now()), progress = 0, stage = NULL, failure = NULL
        WHERE id = 'queued' AND status NOT IN ('completed', 'failed', 'cancelled') RETURNING attempt
    """,
    "save": """
        UPDATE extractions SET version = version + 1, status = 'failed', progress = 100, stage = NULL,
            finished_at = now(), result = NULL, failure = NULL, retries = 0
        WHERE id = 'queued' AND attempt = 1 AND status = 'processing' RETURNING status
    """,
    "answer": """
        UPDATE idempotency_keys SET answer_status = 201 WHERE owner = 'ann' AND key = 'k' RETURNING answer_status
    """,
    "enqueue": """
        INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, args)
        VALUES ('small', 'extract_features', 0, 'new', 'new', '{"extraction_id": "new"}')
        ON CONFLICT (queueing_lock) WHERE status = 'todo' DO NOTHING RETURNING lock
    """,
    "fetch": """
        UPDATE procrastinate_jobs SET status = 'doing', worker_id = 1 WHERE id = (
            SELECT id FROM procrastinate_jobs WHERE status = 'todo' AND queue_name = ANY(ARRAY['small', 'large'])
              AND (scheduled_at IS NULL OR scheduled_at <= clock_timestamp())
            ORDER BY priority DESC, id LIMIT 1 FOR UPDATE SKIP LOCKED
        ) RETURNING task_name
    """,
    "remove": """
        DELETE FROM extractions WHERE id = 'queued' AND status IN ('completed', 'failed', 'cancelled') RETURNING id
    """,
    "forget": "DELETE FROM extractions WHERE id = 'done' AND finished_at < now() + interval '1 day' RETURNING id",
}
"""What release 0003 says to the tables, word for word in what matters."""


WEBHOOKS = """
    INSERT INTO webhook_deliveries (id, extraction_id, owner, url, event_type, body, created_at, state, attempt, log)
    SELECT 'msg_' || id, id, owner, 'https://example.org/', 'extraction.failed', '{}', now(), 'pending', 0,
        '{"attempts": []}' FROM extractions;
    INSERT INTO procrastinate_jobs (queue_name, task_name, lock, args, priority)
    VALUES ('webhooks', 'deliver_webhook', 'w', '{}', 9);
"""
"""What this release has stored meanwhile; its job has the highest priority of all."""
BEFORE = {
    "save": "UPDATE extractions SET status = 'processing', attempt = 1 WHERE id = 'queued'",
    "remove": "UPDATE extractions SET status = 'failed', finished_at = now() WHERE id = 'queued'",
}
"""What the statement expects to have happened."""


COLUMNS = "SELECT string_agg(quote_ident(column_name), ', ') FROM information_schema.columns WHERE table_name = '{}'"


def columns_of_0003(url: str) -> dict[str, str]:
    """The columns of each table, where revision 0003 is the present one."""
    return {table: rows(url, COLUMNS.format(table))[0][0] for table in TABLES_OF_0003}


def everything(url: str, columns: dict[str, str]) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of revision 0003's tables, without columns that came later."""
    return {table: sorted(rows(url, f"SELECT {names} FROM {table}"), key=str) for table, names in columns.items()}  # noqa: S608


async def test_a_database_in_full_use_keeps_all_that_is_in_it(database_url: str) -> None:
    """Every row of the release before, running and waiting jobs too, is there after the upgrade, and after a return."""
    go(database_url, command.upgrade, "0003")
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        connection.execute(FILL_0003)
    columns = columns_of_0003(database_url)
    before = everything(database_url, columns)
    assert {table: len(found) for table, found in before.items() if table != "procrastinate_events"} == {
        "datasets": 1, "extractions": 3, "idempotency_keys": 1, "api_keys": 1, "model_spending": 1,
        "procrastinate_jobs": 3, "procrastinate_workers": 1,
    }  # fmt: skip
    assert before["procrastinate_events"]
    database = open_at(database_url)
    await database.migrate()
    assert everything(database_url, columns) == before
    async with database.store.begin() as work:
        found = {name: await work.extractions.find(name) for name in ("queued", "running", "done")}
        assert {name: row.status for name, row in found.items() if row is not None} == {
            "queued": "queued", "running": "processing", "done": "failed",
        }  # fmt: skip
        assert await work.deliveries.of_extraction("done") == ()
    await database.close()
    go(database_url, command.downgrade, "0003")
    assert everything(database_url, columns) == before


@pytest.mark.parametrize("name", STATEMENTS_OF_0003)
async def test_release_0003_works_on_after_the_upgrade(database_url: str, name: str) -> None:
    """During the rollout its statements do what they did; webhooks go with their extractions."""
    go(database_url, command.upgrade, "0003")
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        connection.execute(FILL_0003)
    database = open_at(database_url)
    await database.migrate()
    await database.close()
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        connection.execute(WEBHOOKS)
        connection.execute(BEFORE.get(name, "SELECT"))
    assert len(rows(database_url, STATEMENTS_OF_0003[name])) == 1
    if name in {"remove", "forget"}:
        assert len(rows(database_url, "SELECT id FROM webhook_deliveries")) == 2
    if name == "fetch":
        assert rows(database_url, "SELECT lock FROM procrastinate_jobs WHERE status = 'doing' ORDER BY id") == [
            ("queued",), ("running",),
        ]  # fmt: skip
