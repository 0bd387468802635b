"""The service's own SQL on the tables of Procrastinate, whose version is pinned.

A job's `lock` and `queueing_lock` are the id of its extraction or webhook: for each id at most one job runs and at most
one waits. A job that is put back is deleted and inserted anew in one statement, because another may wait already, and
because only an insertion notifies the workers.
"""

from __future__ import annotations

TASK = "extract_features"
DELIVERY_TASK = "deliver_webhook"
DELIVERY_QUEUE = "webhooks"
"""A queue of their own: webhooks never wait behind extractions, nor extractions behind webhooks."""
CRASHES = "extraction_crashes"
"""The tally of attempts that ended with a crash of their worker. It is kept in the database: the worker that finds a
crash may be the next to crash, before its metrics are scraped."""
MAX_COUNTED_AHEAD = 10_000
"""A principal's waiting extractions that are counted; beyond so many, one more makes no difference."""

_HEAD = """coalesce((
        SELECT job.priority FROM procrastinate_jobs AS job
        WHERE job.status = 'todo' AND job.queue_name = {queue}
          AND (job.scheduled_at IS NULL OR job.scheduled_at <= clock_timestamp())
        ORDER BY job.priority DESC, job.id LIMIT 1
    ), 0)"""
"""The priority of the next job in a queue."""

_UNLESS_WAITING = "ON CONFLICT (queueing_lock) WHERE status = 'todo' DO NOTHING"

ENQUEUE = f"""
WITH ahead AS (
    SELECT count(*) AS jobs FROM (
        SELECT FROM extractions
        WHERE owner = %(owner)s AND lane = %(queue)s::text AND status IN ('queued', 'processing')
          AND (created_at, id) < (%(created_at)s, %(id)s::text)
        LIMIT {MAX_COUNTED_AHEAD}
    ) AS counted
)
INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at)
SELECT %(queue)s::text, '{TASK}', greatest({_HEAD.format(queue="%(queue)s::text")} - ahead.jobs, -2147483648),
    %(id)s::text, %(id)s::text, %(args)s::jsonb,
    CASE WHEN %(delay)s::float8 > 0 THEN clock_timestamp() + make_interval(secs => %(delay)s::float8) END
FROM ahead
{_UNLESS_WAITING}
"""  # noqa: S608 -- constants of this module; values are parameters
"""Start-time fair queueing: a principal's n-th waiting extraction comes n places after the next job of the queue."""

_SUSPECT = """coalesce((
        SELECT extractions.crashes + (extractions.status = 'processing')::int >= %(crashes)s
        FROM extractions WHERE extractions.id = {job}.lock
    ), false)"""
"""Whether one more crash would fail the job's extraction. (With EXISTS, PostgreSQL may read the whole table.)"""

FETCH = f"""
WITH next AS (
    SELECT job.id FROM procrastinate_jobs AS job
    WHERE job.status = 'todo' AND job.queue_name = ANY(%(queues)s::text[])
      AND (job.scheduled_at IS NULL OR job.scheduled_at <= clock_timestamp())
      AND NOT EXISTS (SELECT FROM procrastinate_jobs AS other WHERE other.lock = job.lock AND other.status = 'doing')
      AND (NOT EXISTS (
        SELECT FROM procrastinate_jobs AS own
        WHERE own.status = 'doing' AND own.worker_id = ANY(%(workers)s::bigint[]) AND {_SUSPECT.format(job="own")}
      ) OR NOT {_SUSPECT.format(job="job")})
    ORDER BY job.priority DESC, job.id LIMIT 1
    FOR UPDATE OF job SKIP LOCKED
)
UPDATE procrastinate_jobs AS job SET status = 'doing', worker_id = %(worker_id)s FROM next WHERE job.id = next.id
RETURNING job.*
"""  # noqa: S608 -- likewise
"""A process runs one suspected job at a time, that is, one whose next crash would be its last. Otherwise innocent jobs
that ran beside the one that crashes its workers would run beside it again, and fail with it.

Procrastinate's own statement also looks for other waiting jobs with the same lock, of which there are none here, and
without an index: with 10 000 waiting jobs and stale statistics it took more than five seconds; this takes
milliseconds."""

_PUT_BACK = f"""
INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, args, attempts, scheduled_at)
SELECT queue_name, task_name, priority, lock, queueing_lock, args, attempts + 1, {{due}} FROM gone
{_UNLESS_WAITING}
"""  # noqa: S608 -- likewise

_OWN = "id = %(job_id)s AND worker_id = %(worker_id)s AND status = 'doing'"
"""The fence: a worker that was declared dead finds its job deleted, or assigned to another."""

DELETE_OWN = f"DELETE FROM procrastinate_jobs WHERE {_OWN}"  # noqa: S608 -- likewise
END_OWN = f"UPDATE procrastinate_jobs SET status = %(status)s, attempts = attempts + 1 WHERE {_OWN}"  # noqa: S608 -- likewise
PUT_OWN_BACK = (
    f"WITH gone AS (DELETE FROM procrastinate_jobs WHERE {_OWN} RETURNING *)"  # noqa: S608 -- likewise
    + _PUT_BACK.format(
        due="CASE WHEN %(delay)s::float8 > 0 THEN clock_timestamp() + make_interval(secs => %(delay)s::float8) END"
    )
)

BEAT = """
INSERT INTO procrastinate_workers (id, last_heartbeat) OVERRIDING SYSTEM VALUE
SELECT worker, clock_timestamp() FROM unnest(%(workers)s::bigint[]) AS worker
ON CONFLICT (id) DO UPDATE SET last_heartbeat = excluded.last_heartbeat
"""
"""A worker that was declared dead and still lives is registered again under its id."""

DOING = "SELECT id FROM procrastinate_jobs WHERE status = 'doing' AND worker_id = ANY(%(workers)s::bigint[])"

RESCUE = (
    """
WITH dead AS (
    SELECT job.id FROM procrastinate_jobs AS job LEFT JOIN procrastinate_workers AS worker ON worker.id = job.worker_id
    WHERE job.status = 'doing' AND (
        worker.id IS NULL
        OR worker.last_heartbeat < clock_timestamp() - make_interval(secs => %(dead_seconds)s::float8)
        OR job.id = ANY(%(lost)s::bigint[])
    )
    FOR UPDATE OF job SKIP LOCKED
), gone AS (
    DELETE FROM procrastinate_jobs AS job USING dead WHERE job.id = dead.id RETURNING job.*
), back AS ("""  # noqa: S608 -- likewise
    + _PUT_BACK.format(due="NULL")
    + f"""), left_behind AS (
    SELECT gone.lock AS subject, gone.task_name AS task, coalesce(extractions.status = 'processing', false) AS crashed
    FROM gone LEFT JOIN extractions ON extractions.id = gone.lock
), counted AS (
    INSERT INTO tallies (name, value) SELECT '{CRASHES}', count(*) FROM left_behind WHERE crashed HAVING count(*) > 0
    ON CONFLICT (name) DO UPDATE SET value = tallies.value + excluded.value
)
SELECT subject, task, crashed FROM left_behind
"""  # noqa: S608 -- likewise
)
"""Returns each job that was put back, and whether an attempt of an extraction crashed."""

STRANDED = f"""
INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, args)
SELECT lane, '{TASK}', {_HEAD.format(queue="found.lane")}, id, id, jsonb_build_object('extraction_id', id)
FROM (
    SELECT id, lane FROM extractions
    WHERE status IN ('queued', 'processing')
      AND created_at < clock_timestamp() - make_interval(secs => %(stranded_seconds)s::float8)
      AND NOT EXISTS (
        SELECT FROM procrastinate_jobs AS job
        WHERE job.lock = extractions.id AND job.status IN ('todo', 'doing')
      )
    ORDER BY created_at LIMIT 1000
    FOR UPDATE SKIP LOCKED
) AS found
{_UNLESS_WAITING}
RETURNING lock AS subject
"""  # noqa: S608 -- likewise
"""Rows and jobs change in the same transactions, so an extraction without a job in this snapshot is stranded."""

ENQUEUE_DELIVERY = f"""
WITH ahead AS (
    SELECT count(*) AS jobs FROM (
        SELECT FROM webhook_deliveries
        WHERE owner = %(owner)s AND state = 'pending' AND (created_at, id) < (%(created_at)s, %(id)s::text)
        LIMIT {MAX_COUNTED_AHEAD}
    ) AS counted
)
INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at)
SELECT '{DELIVERY_QUEUE}', '{DELIVERY_TASK}',
    greatest({_HEAD.format(queue=f"'{DELIVERY_QUEUE}'")} - ahead.jobs, -2147483648),
    %(id)s::text, %(id)s::text, %(args)s::jsonb,
    CASE WHEN %(delay)s::float8 > 0 THEN clock_timestamp() + make_interval(secs => %(delay)s::float8) END
FROM ahead
{_UNLESS_WAITING}
"""  # noqa: S608 -- likewise
"""Fair as for extractions: a receiver that never answers delays only its own owner's webhooks."""

STRANDED_DELIVERIES = f"""
INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at)
SELECT '{DELIVERY_QUEUE}', '{DELIVERY_TASK}', {_HEAD.format(queue=f"'{DELIVERY_QUEUE}'")}, id, id,
    jsonb_build_object('delivery_id', id), next_attempt_at
FROM (
    SELECT id, next_attempt_at FROM webhook_deliveries
    WHERE state = 'pending' AND created_at < clock_timestamp() - make_interval(secs => %(stranded_seconds)s::float8)
      AND NOT EXISTS (
        SELECT FROM procrastinate_jobs AS job
        WHERE job.lock = webhook_deliveries.id AND job.status IN ('todo', 'doing')
      )
    ORDER BY created_at LIMIT 1000
    FOR UPDATE SKIP LOCKED
) AS found
{_UNLESS_WAITING}
RETURNING lock AS subject
"""  # noqa: S608 -- likewise

PRUNE = """
DELETE FROM procrastinate_workers
WHERE last_heartbeat < clock_timestamp() - make_interval(secs => %(seconds)s::float8)
"""

CLEAN = """
DELETE FROM procrastinate_jobs AS job
WHERE status NOT IN ('todo', 'doing') AND NOT EXISTS (
    SELECT FROM procrastinate_events AS event
    WHERE event.job_id = job.id AND event.at > clock_timestamp() - make_interval(secs => %(seconds)s::float8)
)
"""

MEASURE = f"""
WITH live AS (
    SELECT id, status, scheduled_at, status = 'todo' AND coalesce(scheduled_at, '-infinity') <= clock_timestamp() AS due
    FROM procrastinate_jobs WHERE status IN ('todo', 'doing') AND task_name = '{TASK}'
), first AS (
    SELECT min(id) FILTER (WHERE due AND scheduled_at IS NULL) AS id,
        min(scheduled_at) FILTER (WHERE due) AS scheduled_at,
        count(*) FILTER (WHERE due) AS queued,
        count(*) FILTER (WHERE status = 'todo' AND NOT due) AS scheduled,
        count(*) FILTER (WHERE status = 'doing') AS running
    FROM live
)
SELECT queued, scheduled, running, coalesce(extract(epoch FROM clock_timestamp() - least(first.scheduled_at, (
        SELECT min(event.at) FROM procrastinate_events AS event WHERE event.job_id = first.id
    ))), 0)::float8 AS oldest_seconds, (
        SELECT count(*) FROM procrastinate_workers
        WHERE last_heartbeat >= clock_timestamp() - make_interval(secs => %(dead_seconds)s::float8)
    ) AS workers, coalesce((SELECT value FROM tallies WHERE name = '{CRASHES}'), 0) AS crashes
FROM first
"""  # noqa: S608 -- likewise
"""Extraction jobs by state, the waiting time of the first due one, and the number of living workers and of crashes."""
