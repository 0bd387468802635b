"""The attacks, each bounded: what one client without mercy sends, and what it was answered."""

from __future__ import annotations

import asyncio
import contextlib
import io
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct

from tests.attacks.stand import Stand

MIB = 2**20
ADDRESS = "127.0.0.2"
"""The attacker's; everybody else comes from 127.0.0.1."""
MANY_ADDRESSES = tuple(f"127.0.1.{number}" for number in range(1, 101))
PARQUET = "application/vnd.apache.parquet"
Answers = Counter[str]


class Attack(Struct, frozen=True):
    """One attack."""

    name: str
    does: str
    """In words, for the table."""
    run: Callable[[Stand, float], Awaitable[Answers]]
    """Attack for about so many seconds; give the answers by status."""
    settings: Mapping[str, str] = {}


async def nested_parquet(stand: Stand, seconds: float) -> Answers:
    """Upload Parquet files of 60 nested lists, one for each place of the engine and more."""
    kind, value = pa.int8(), 1
    for _ in range(60):
        kind, value = pa.list_(kind), [value]
    body = _parquet(pa.table({"a": pa.array([value], kind)}))
    return await _uploads(stand, [body] * 8, PARQUET, seconds)


async def many_rows(stand: Stand, seconds: float) -> Answers:
    """Upload 200 million rows of one small integer, which compress to less than a megabyte."""
    column = pa.array([0] * 10_000_000, pa.int8())
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, pa.schema([("a", pa.int8())]), compression="zstd") as writer:
        for _ in range(20):
            writer.write_table(pa.table({"a": column}), row_group_size=10_000_000)
    return await _uploads(stand, [sink.getvalue()], PARQUET, seconds)


async def large_uploads(stand: Stand, seconds: float) -> Answers:
    """Upload 24 files of 20 MiB at once."""
    row = b"%d,some text that takes some room,12.5,2024-01-02T03:04:05\n"
    lines = b"".join(row % number for number in range(20 * MIB // len(row)))
    return await _uploads(stand, [b"a,b,c,d\n" + lines] * 24, "text/csv", seconds)


async def endless_header(stand: Stand, seconds: float) -> Answers:
    """Send one header line of 62 MiB, again and again, without a credential."""
    return await _raw(stand, seconds, b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ", b"a" * 65_536, 992)


async def endless_url(stand: Stand, seconds: float) -> Answers:
    """Send one URL of 62 MiB, again and again, without a credential."""
    return await _raw(stand, seconds, b"GET /", b"a" * 65_536, 992)


async def small_headers(stand: Stand, seconds: float) -> Answers:
    """Send 200 MiB of small header fields, without a credential."""
    return await _raw(stand, seconds, b"GET /health HTTP/1.1\r\nHost: localhost\r\n", b"a: b\r\n" * 10_000, 3495)


async def idle_connections(stand: Stand, seconds: float) -> Answers:
    """Open 1 100 connections and send nothing."""
    return await _held(stand, seconds, b"")


async def half_headers(stand: Stand, seconds: float) -> Answers:
    """Open 1 100 connections and send half a header on each."""
    return await _held(stand, seconds, b"GET /health/live HTTP/1.1\r\nHost: local")


async def half_bodies(stand: Stand, seconds: float) -> Answers:
    """Open 1 100 connections and send half of a body that was announced on each."""
    head = (
        "POST /api/v1/datasets?dataset_id=half HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\n"
        f"Authorization: Bearer {stand.attacker}\r\nContent-Length: 1000000\r\n\r\na,b\n1,2\n"
    )
    return await _held(stand, seconds, head.encode())


async def spread_connections(stand: Stand, seconds: float) -> Answers:
    """Open 1 100 connections from a hundred addresses, with half a header on each."""
    return await _held(stand, seconds, b"GET /health/live HTTP/1.1\r\nHost: local", MANY_ADDRESSES)


async def dear_sentences(stand: Stand, seconds: float) -> Answers:
    """Ask for features of 400 columns in sentences that are dear to read."""
    columns = ",".join(f"aB{number}aB" for number in range(400))
    rows = "\n".join(",".join(str(number % 7) for number in range(400)) for _ in range(20))
    async with _client(stand) as client:
        await client.post(
            "/api/v1/datasets?dataset_id=wide",
            content=f"{columns}\n{rows}\n".encode(),
            headers={"Content-Type": "text/csv"},
        )
        sentences = ["aB" * 4990, "1," * 4995, "ß" * 9990, "\ufdfa" * 9990, "aB" * 4989, "1, " * 3330]
        return await _many(client, [_extract(sentence) for sentence in sentences], seconds)


async def event_streams(stand: Stand, seconds: float) -> Answers:
    """Open 800 event streams of one principal."""
    answers: Answers = Counter()
    async with _client(stand) as client:
        await client.post(
            "/api/v1/datasets?dataset_id=streamed", content=b"a,b\n1,2\n3,4\n", headers={"Content-Type": "text/csv"}
        )
        made = await client.post(
            "/api/v1/extract-features",
            json={"dataset_id": "streamed", "feature_description": "Ratio of a and b"},
            headers={"Prefer": "respond-async"},
        )
        place = made.json()["data"]["extraction_id"]

        async def listen() -> None:
            with contextlib.suppress(httpx2.HTTPError):
                async with client.stream("GET", f"/api/v1/extraction/{place}/events") as stream:
                    answers[str(stream.status_code)] += 1
                    async for _ in stream.aiter_bytes():
                        pass

        await _within(seconds, [listen() for _ in range(800)])
    return answers


async def slow_readers(stand: Stand, seconds: float) -> Answers:
    """Ask for a table of some megabytes on 200 connections of one principal, and read nothing of it."""
    rows = b"".join(b"u%d,%d.%d\n" % (row % 150_000, row % 977, row % 89) for row in range(150_000))
    async with _client(stand) as client:
        await client.post(
            f"/api/v1/datasets?dataset_id=read{time.monotonic_ns()}",
            content=b"user,amount\n" + rows,
            headers={"Content-Type": "text/csv"},
        )
        dataset = (await client.get("/api/v1/datasets?limit=1")).json()["data"]["items"][0]["dataset_id"]
        made = await client.post(
            "/api/v1/extract-features",
            json={
                "dataset_id": dataset,
                "feature_description": "Total and average amount for each user",
                "quality_threshold": "low",
            },
            headers={"Prefer": "wait=60"},
        )
        extraction = made.json()["data"]["extraction_id"]
    head = (
        f"GET /api/v1/extraction/{extraction}/features?format=csv HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {stand.attacker}\r\n\r\n"
    )
    return await _held(stand, seconds, head.encode(), connections=200)


async def heavy_extractions(stand: Stand, seconds: float) -> Answers:
    """Have 60 extractions of 200 features of 40 columns and 100 000 rows computed, as a caller that does not wait."""
    columns = ",".join(f"c{number}" for number in range(40))
    line = ",".join(str(number * 7919 % 1013) for number in range(39))
    rows = "".join(f"{row % 5000},{line}\n" for row in range(100_000))
    async with _client(stand) as client:
        dataset = f"heavy{time.monotonic_ns()}"
        await client.post(
            f"/api/v1/datasets?dataset_id={dataset}",
            content=f"{columns}\n{rows}".encode(),
            headers={"Content-Type": "text/csv"},
        )

        def extract(number: int) -> Ask:
            body = {
                "dataset_id": dataset,
                "feature_description": f"Median, average, minimum and maximum of everything for each c0, {number}",
                "options": {"max_features": 200, "entity": "c0"},
            }
            return lambda asked: asked.post("/api/v1/extract-features", json=body, headers={"Prefer": "respond-async"})

        began = time.monotonic()
        answers = await _many(client, [extract(number) for number in range(60)], seconds)
        await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
        return answers


async def guesses(stand: Stand, seconds: float) -> Answers:
    """Guess API keys, as quickly as they are refused."""
    async with _client(stand, key="") as client:

        async def guess(number: int) -> httpx2.Response:
            key = f"fa_{number:012x}_{'a' * 43}"
            return await client.get("/api/v1/datasets", headers={"Authorization": f"Bearer {key}"})

        return await _many(client, [lambda _, number=number: guess(number) for number in range(2000)], seconds)


async def scrapes(stand: Stand, seconds: float) -> Answers:
    """Ask for the metrics at the API's port without a credential, as quickly as they come."""
    async with _client(stand, key="") as client:
        return await _many(client, [lambda asked: asked.get("/metrics")] * 2000, seconds, at_once=20)


ATTACKS: tuple[Attack, ...] = (
    Attack("nested-parquet", "eight Parquet files of 60 nested lists", nested_parquet),
    Attack("endless-header", "one header line of 62 MiB, no credential", endless_header),
    Attack("endless-url", "one URL of 62 MiB, no credential", endless_url),
    Attack("small-headers", "200 MiB of small header fields, no credential", small_headers),
    Attack("idle-connections", "1 100 connections that send nothing", idle_connections),
    Attack("half-headers", "1 100 connections with half a header", half_headers),
    Attack("spread-connections", "1 100 connections with half a header from 100 addresses", spread_connections),
    Attack("half-bodies", "1 100 connections with half a body", half_bodies),
    Attack("dear-sentences", "sentences that are dear to read, on 400 columns", dear_sentences),
    Attack("event-streams", "800 event streams of one principal", event_streams),
    Attack("slow-readers", "200 downloads of one principal that nobody reads", slow_readers),
    Attack("heavy-extractions", "60 extractions of 200 features of one principal", heavy_extractions),
    Attack("large-uploads", "24 uploads of 20 MiB of one principal", large_uploads),
    Attack("many-rows", "200 million rows in a Parquet file of less than 1 MB", many_rows),
    Attack("guesses", "2 000 guesses of an API key", guesses),
    Attack("scrapes", "/metrics of the API's port, 20 at once", scrapes, {"ENVIRONMENT": "staging"}),
)


def perform(name: str, stand: Stand, seconds: float) -> Answers:
    """Run the attack of that name in this process."""

    async def run() -> Answers:
        return await next(one for one in ATTACKS if one.name == name).run(stand, seconds)

    return asyncio.run(run())


# What the attacks are made of


Ask = Callable[[httpx2.AsyncClient], Awaitable[httpx2.Response]]


@asynccontextmanager
async def _client(stand: Stand, key: str | None = None) -> AsyncIterator[httpx2.AsyncClient]:
    secret = stand.attacker if key is None else key
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    limits = httpx2.Limits(max_connections=2000, max_keepalive_connections=200)
    transport = httpx2.AsyncHTTPTransport(limits=limits, local_address=ADDRESS)
    async with httpx2.AsyncClient(base_url=stand.url, headers=headers, timeout=120, transport=transport) as client:
        yield client


def _parquet(made: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(made, sink)
    return sink.getvalue()


def _extract(sentence: str) -> Ask:
    async def ask(client: httpx2.AsyncClient) -> httpx2.Response:
        body = {"dataset_id": "wide", "feature_description": sentence}
        return await client.post("/api/v1/extract-features", json=body)

    return ask


async def _uploads(stand: Stand, bodies: list[bytes], media_type: str, seconds: float) -> Answers:
    async with _client(stand) as client:

        def upload(number: int, body: bytes) -> Ask:
            async def ask(asked: httpx2.AsyncClient) -> httpx2.Response:
                path = f"/api/v1/datasets?dataset_id=a{number}"
                return await asked.post(path, content=body, headers={"Content-Type": media_type})

            return ask

        return await _many(client, [upload(*each) for each in enumerate(bodies)], seconds)


async def _many(client: httpx2.AsyncClient, asks: list[Ask], seconds: float, at_once: int = 50) -> Answers:
    answers: Answers = Counter()
    places = asyncio.Semaphore(at_once)

    async def one(ask: Ask) -> None:
        async with places:
            try:
                answers[str((await ask(client)).status_code)] += 1
            except httpx2.HTTPError as error:
                answers[type(error).__name__] += 1

    await _within(seconds, [one(ask) for ask in asks])
    return answers


async def _within(seconds: float, work: list[Any]) -> None:
    tasks = [asyncio.create_task(each) for each in work]
    _, running = await asyncio.wait(tasks, timeout=seconds)
    for task in running:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _raw(stand: Stand, seconds: float, start: bytes, piece: bytes, pieces: int) -> Answers:
    answers: Answers = Counter()
    last = time.monotonic() + seconds
    while time.monotonic() < last:
        answers[await _flood(stand, start, piece, pieces, last)] += 1
    return answers


async def _flood(stand: Stand, start: bytes, piece: bytes, pieces: int, last: float) -> str:
    try:
        reader, writer = await asyncio.open_connection(stand.host, stand.port, local_addr=(ADDRESS, 0))
    except OSError as error:
        return type(error).__name__
    try:
        writer.write(start)
        for _ in range(pieces):
            if time.monotonic() > last:
                return "cut"
            writer.write(piece)
            await asyncio.wait_for(writer.drain(), 10)
        return (await asyncio.wait_for(reader.readline(), 10)).decode()[9:12] or "closed"
    except (ConnectionError, TimeoutError) as error:
        return type(error).__name__
    finally:
        writer.transport.abort()


async def _held(
    stand: Stand, seconds: float, data: bytes, addresses: Sequence[str] = (ADDRESS,), connections: int = 1100
) -> Answers:
    answers: Answers = Counter()
    writers: list[asyncio.StreamWriter] = []

    async def hold(address: str) -> None:
        connecting = asyncio.open_connection(stand.host, stand.port, local_addr=(address, 0))
        try:
            reader, writer = await asyncio.wait_for(connecting, 10)
        except (OSError, TimeoutError) as error:
            answers[type(error).__name__] += 1
            return
        writers.append(writer)
        writer.write(data)
        try:
            answers[(await reader.readline()).decode()[9:12] or "closed"] += 1
        except ConnectionError as error:
            answers[type(error).__name__] += 1

    await _within(seconds, [hold(addresses[number % len(addresses)]) for number in range(connections)])
    for writer in writers:
        writer.transport.abort()
    answers["held"] = len(writers) - sum(answers.values())
    return answers
