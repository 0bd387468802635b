from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from tools.testbed.fleet import Fleet, open_fleet
from tools.testbed.retrying_client import RetryingClient

JOBS = 16
pytestmark = [pytest.mark.proof, pytest.mark.timeout(300), pytest.mark.xdist_group("fleet")]


def drop(url: str) -> None:
    """Destroy a database, whoever is connected."""
    address = urlsplit(url.replace("+psycopg", ""))
    name = address.path.removeprefix("/")
    with psycopg.connect(address._replace(path="/postgres").geturl(), autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


async def table(caller: RetryingClient, extraction_id: str) -> str:
    """Digest of a feature table as a client gets it."""
    answer = await caller.request("GET", f"/api/v1/extraction/{extraction_id}/features?format=csv")
    assert answer.status_code == 200, answer.text
    return hashlib.sha256(answer.content).hexdigest()


async def test_restore_drill_under_load(new_database: Callable[[], str], tmp_path: Path) -> None:
    """Backed up while extractions run, destroyed and restored: whatever was acknowledged before the backup is there.

    What had ended has its table, byte for byte what clients had downloaded; what had not ended ends now.
    """
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    backup = f"file://{tmp_path}/backup"
    async with open_fleet(tmp_path / "here", new_database()) as here, here.client() as client:
        here.start("serve", WORKER_IN_API="true", WORKER_CONCURRENCY="2")
        here.start("worker", WORKER_CONCURRENCY="2")
        await asyncio.gather(*(pod.ready() for pod in here.pods))
        caller = RetryingClient(here, client)
        await caller.upload("clicks")
        acknowledged = await caller.submit("clicks", JOBS)
        await caller.wait_until_ended(acknowledged[0])
        load = asyncio.create_task(caller.submit("clicks", JOBS, "during"))
        copying = here.start("backup", backup)
        assert await copying.exit_status() == 0, copying.tail()
        acknowledged_later = await load
        for extraction_id in acknowledged:
            assert (await caller.wait_until_ended(extraction_id))["status"] == "completed"
        tables = {extraction_id: await table(caller, extraction_id) for extraction_id in acknowledged}
        for pod in here.pods:
            pod.kill()
        await asyncio.to_thread(drop, here.database_url)
        await asyncio.to_thread(shutil.rmtree, tmp_path / "here/artifacts")
    there = Fleet(tmp_path / "there", new_database(), f"file://{tmp_path}/there/artifacts", key=here.key)
    try:
        bringing = there.start("restore", backup)
        assert await bringing.exit_status() == 0, bringing.tail()
        before = {row["id"]: row for row in await there.sql("SELECT * FROM extractions")}
        assert set(acknowledged) <= before.keys()
        unfinished = [each for each, row in before.items() if row["finished_at"] is None]
        assert unfinished, "the backup was made when all was done: it proves nothing"
        there.start("serve")
        there.start("worker")
        async with there.balanced(), there.client() as client:
            caller = RetryingClient(there, client)
            for extraction_id in before:
                assert (await caller.wait_until_ended(extraction_id))["status"] == "completed"
            found = {extraction_id: await table(caller, extraction_id) for extraction_id in acknowledged}
            await there.wait_until_all_ended()
            audit = await there.audit(acknowledged)
    finally:
        there.close()
    assert found == tables
    audit.require_nothing_lost()
    assert before.keys() <= {*acknowledged, *acknowledged_later}
    _require_checksums(tmp_path / "backup", tmp_path / "there/artifacts")


def _require_checksums(backup: Path, artifacts: Path) -> None:
    """Every artifact of the backup is where it was, and is what it was."""
    copies = json.loads((backup / "manifest.json").read_text())["artifacts"]
    assert len(copies) > 1
    for copy in copies:
        assert hashlib.sha256((artifacts / copy["key"]).read_bytes()).hexdigest() == copy["sha256"]
