from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.features.errors import DependencyUnavailable, PayloadTooLarge
from service.features.ports import Artifacts, StoredArtifact
from service.store import artifacts as module
from service.store.artifacts import open_artifacts
from tests.integration.s3_stub import serve_bucket

MIB = 2**20


async def chunks(*parts: bytes, fault: BaseException | None = None) -> AsyncIterator[bytes]:
    """A stream of the parts, that breaks off with the fault."""
    for part in parts:
        yield part
    if fault is not None:
        raise fault


def files(folder: Path) -> list[str]:
    """Every file below the folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def wait_for_files(folder: Path, expected: list[str]) -> list[str]:
    """Every file below the folder, once they are the expected ones or have had long enough to be."""
    deadline = time.monotonic() + 30
    while (found := files(folder)) != expected and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


def modes(*paths: Path) -> set[int]:
    """The paths' permissions."""
    return {path.stat().st_mode & 0o777 for path in paths}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where local artifacts go; it does not exist yet."""
    return tmp_path / "deep" / "artifacts"


@pytest.fixture(params=["folder", "memory"])
def artifacts(request: pytest.FixtureRequest, folder: Path) -> Artifacts:
    """A local store, or one that is reached over obstore alone, as a bucket is."""
    return open_artifacts("memory:///" if request.param == "memory" else str(folder))


async def content(artifacts: Artifacts, key: str) -> bytes:
    """An artifact's bytes."""
    return b"".join([chunk async for chunk in artifacts.stream(key)])


@pytest.mark.parametrize("parts", [(), (b"",), (b"a", b"", b"bc"), (b"x" * MIB,) * 20])
async def test_stream_comes_back(artifacts: Artifacts, parts: tuple[bytes, ...]) -> None:
    """A stream of any size is read back byte for byte, as a stream and as a local file, and its size is returned."""
    whole = b"".join(parts)
    assert await artifacts.put_stream("uploads/a", chunks(*parts), limit=len(whole)) == len(whole)
    assert await content(artifacts, "uploads/a") == whole
    async with artifacts.local("uploads/a") as path:
        assert path.read_bytes() == whole


async def test_file_comes_back(artifacts: Artifacts, tmp_path: Path) -> None:
    """A file of several parts comes back, and replaces what was under its key."""
    source = tmp_path / "source"
    for size in (20 * MIB + 1, 3):
        source.write_bytes(os.urandom(size))
        await artifacts.put_file("features/a.parquet", source)
        assert await content(artifacts, "features/a.parquet") == source.read_bytes()
    async with artifacts.local("features/a.parquet") as path:
        assert path.suffix == ".parquet"


async def test_too_large_stream_leaves_nothing(artifacts: Artifacts, folder: Path) -> None:
    """One byte over the limit ends the stream at once and leaves neither an artifact nor a part of one."""
    seen: list[int] = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            seen.append(MIB)
            yield b"x" * MIB

    with pytest.raises(PayloadTooLarge, match="limit of 10485759 bytes"):
        await artifacts.put_stream("uploads/a", endless(), limit=10 * MIB - 1)
    assert sum(seen) == 10 * MIB
    with pytest.raises(FileNotFoundError):
        await content(artifacts, "uploads/a")
    assert files(folder.parent) == []


@pytest.mark.parametrize("sent", [1, 20])
async def test_broken_stream_leaves_what_was_there(artifacts: Artifacts, folder: Path, sent: int) -> None:
    """A stream that breaks off, early or late, passes its error on and leaves the artifact as it was before."""
    await artifacts.put_stream("uploads/a", chunks(b"before"), limit=10)
    with pytest.raises(ConnectionResetError):
        await artifacts.put_stream(
            "uploads/a", chunks(*[b"x" * MIB] * sent, fault=ConnectionResetError()), limit=100 * MIB
        )
    assert await content(artifacts, "uploads/a") == b"before"
    assert files(folder.parent) in ([], ["artifacts/uploads/a"])


async def test_cancelled_upload_leaves_nothing(artifacts: Artifacts, folder: Path) -> None:
    """An upload whose task is cancelled amid the stream leaves nothing."""
    under_way, never = asyncio.Event(), asyncio.Event()

    async def stalling() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * MIB
        under_way.set()
        await never.wait()

    upload = asyncio.create_task(artifacts.put_stream("uploads/a", stalling(), limit=100 * MIB))
    await under_way.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    with pytest.raises(FileNotFoundError):
        await content(artifacts, "uploads/a")
    assert await asyncio.to_thread(wait_for_files, folder.parent, []) == []


async def test_deleted_artifact_is_gone(artifacts: Artifacts) -> None:
    """Deleting removes, again is no error, and what is gone is not found."""
    await artifacts.put_stream("uploads/a", chunks(b"x"), limit=1)
    await artifacts.delete("uploads/a")
    await artifacts.delete("uploads/a")
    with pytest.raises(FileNotFoundError):
        await content(artifacts, "uploads/a")
    with pytest.raises(FileNotFoundError):
        async with artifacts.local("uploads/a"):
            pass


async def listed(artifacts: Artifacts, prefix: str) -> list[StoredArtifact]:
    """All pages together."""
    return [artifact async for page in artifacts.pages(prefix) for artifact in page]


async def test_artifacts_are_listed_by_prefix(artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    """All artifacts below a prefix are listed, in pages, with size and time; none beside it, and none of nothing."""
    monkeypatch.setattr(module, "PAGE_SIZE", 3)
    assert await listed(artifacts, "features") == []
    began = datetime.now(UTC) - timedelta(seconds=2)
    keys = {f"features/{number}/1.parquet" for number in range(7)}
    for key in (*keys, "features2/x", "uploads/x"):
        await artifacts.put_stream(key, chunks(b"abc"), limit=3)
    pages = [page async for page in artifacts.pages("features")]
    assert [len(page) for page in pages] == [3, 3, 1]
    found = [artifact for page in pages for artifact in page]
    assert {artifact.key for artifact in found} == keys
    assert {artifact.size_bytes for artifact in found} == {3}
    assert all(began <= artifact.modified_at <= datetime.now(UTC) + timedelta(seconds=2) for artifact in found)
    with pytest.raises(ValueError, match="key"):
        await listed(artifacts, "../up")


async def test_artifacts_may_go_while_they_are_listed(artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Removing the listed artifacts page by page removes all of them."""
    monkeypatch.setattr(module, "PAGE_SIZE", 3)
    for number in range(10):
        await artifacts.put_stream(f"features/{number}/1.parquet", chunks(b"x"), limit=1)
    async for page in artifacts.pages("features"):
        for artifact in page:
            await artifacts.delete(artifact.key)
    assert await listed(artifacts, "features") == []


async def test_folders_within_are_private(folder: Path) -> None:
    """Every folder on the way to an artifact is readable by its owner alone."""
    artifacts = open_artifacts(str(folder))
    await artifacts.put_stream("features/a/b/1.parquet", chunks(b"x"), limit=1)
    assert modes(*(folder / name for name in (".", "features", "features/a", "features/a/b"))) == {0o700}


async def test_empty_folders_go_when_they_are_old(folder: Path) -> None:
    """Folders that are empty for a while go; those in use and the store's own stay."""
    artifacts = open_artifacts(str(folder))
    for key in ("features/a/1.parquet", "features/b/1.parquet", "features/c/1.parquet"):
        await artifacts.put_stream(key, chunks(b"x"), limit=1)
    for key in ("features/a/1.parquet", "features/b/1.parquet"):
        await artifacts.delete(key)
    for name in (".", "features/a", "features/c"):
        os.utime(folder / name, (0, 0))
    assert await artifacts.tidy(datetime.now(UTC) - timedelta(hours=1)) == 0
    assert sorted(path.name for path in (folder / "features").iterdir()) == ["b", "c"]
    await artifacts.delete("features/c/1.parquet")
    assert await artifacts.tidy(datetime.now(UTC) + timedelta(hours=1)) == 0
    assert os.listdir(folder) == []  # noqa: PTH208 -- async code


async def test_incomplete_files_of_killed_writers_go(folder: Path) -> None:
    """What a killed writer left of a file is no artifact, and is removed once it is old; files under way stay."""
    artifacts = open_artifacts(str(folder))
    await artifacts.put_stream("uploads/a", chunks(b"x"), limit=1)
    old = datetime.now(UTC) - timedelta(hours=2)
    for name, at in (("a#1", old), ("b#12", old), ("c#3", datetime.now(UTC)), ("a", old), ("note#x", old)):
        (folder / "uploads" / name).write_bytes(b"half")
        os.utime(folder / "uploads" / name, (at.timestamp(),) * 2)
    assert [artifact.key for artifact in await listed(artifacts, "uploads")] == ["uploads/a"]
    assert await artifacts.tidy(datetime.now(UTC) - timedelta(hours=1)) == 2
    assert files(folder) == ["uploads/a", "uploads/c#3", "uploads/note#x"]
    assert await open_artifacts("memory:///").tidy(datetime.now(UTC)) == 0


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../up", "a/../b", "a/..", "a//b", "a/", ".hidden", "a/.b", "a b", "a\0b", "a\n", "é",
            "a#1", "x" * 513]
)  # fmt: skip
async def test_key_that_may_not_be_is_refused(artifacts: Artifacts, tmp_path: Path, key: str) -> None:
    """No entrance takes a key that leaves the store, hides or confuses."""
    with pytest.raises(ValueError, match="key"):
        await artifacts.put_stream(key, chunks(b"x"), limit=1)
    with pytest.raises(ValueError, match="key"):
        await artifacts.put_file(key, tmp_path)
    with pytest.raises(ValueError, match="key"):
        await content(artifacts, key)
    with pytest.raises(ValueError, match="key"):
        await artifacts.delete(key)
    with pytest.raises(ValueError, match="key"):
        async with artifacts.local(key):
            pass


async def test_local_files_are_private(folder: Path, tmp_path: Path) -> None:
    """Local artifacts are readable by their owner alone, and readers get the stored file itself."""
    artifacts = open_artifacts(folder.as_uri())
    source = tmp_path / "source"
    source.write_bytes(b"x")
    await artifacts.put_stream("uploads/a", chunks(b"x"), limit=1)
    await artifacts.put_file("features/b", source)
    await artifacts.ping()
    assert modes(folder, *(folder / name for name in ("uploads", "features", "health"))) == {0o700}
    assert modes(folder / "uploads/a", folder / "features/b") == {0o600}
    async with artifacts.local("uploads/a") as path:
        assert path == folder / "uploads" / "a"


async def test_existing_folder_keeps_its_mode(folder: Path) -> None:
    """A folder that was there before is not changed, and what is put into it is private all the same."""
    open_artifacts(str(folder))
    os.chmod(folder, 0o755)  # noqa: PTH101, S103 - async code; the mode is what is tested
    artifacts = open_artifacts(str(folder))
    await artifacts.put_stream("uploads/a", chunks(b"x"), limit=1)
    assert modes(folder) == {0o755}
    assert modes(folder / "uploads") == {0o700}


async def test_copy_of_remote_artifact_is_temporary() -> None:
    """The local file of a remote artifact is gone after its block."""
    artifacts = open_artifacts("memory:///")
    await artifacts.put_stream("features/a.parquet", chunks(b"x"), limit=1)
    async with artifacts.local("features/a.parquet") as path:
        assert path.read_bytes() == b"x"
        assert path.stat().st_mode & 0o077 == 0 or path.parent.stat().st_mode & 0o077 == 0
    assert not path.parent.exists()


async def test_address_with_escapes_and_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file URL may be percent-encoded, and a path may begin with `~`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for url in ((tmp_path / "a b").as_uri(), "~/c d"):
        await open_artifacts(url).put_stream("a", chunks(b"x"), limit=1)
    assert files(tmp_path) == ["a b/a", "c d/a"]


@pytest.mark.parametrize(
    "url", ["http://ada:hunter2@host/x", "ftp://hunter2/x", "s3://", "hunter2://x", "az://hunter2/x"]
)
def test_unusable_address_is_refused_without_repeating_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that no store has is refused in words that hold nothing of it."""
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(ValueError, match="artifact address") as refused:
        open_artifacts(url)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("url", ["s3://bucket/prefix", "gs://bucket/prefix", "az://container/prefix"])
def test_remote_stores_open_without_contact(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Buckets are opened lazily: nothing is asked of the cloud until something is stored."""
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "ada")
    assert isinstance(open_artifacts(url), module.ObjectArtifacts)


@pytest.fixture
def use_endpoint(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Points the standard AWS variables at an endpoint."""

    def use(address: str) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ada")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")

    return use


async def test_bucket_holds_what_was_stored(use_endpoint: Callable[[str], None], tmp_path: Path) -> None:
    """A bucket that the standard variables name takes streams and files in parts, below the prefix, and gives them."""
    source = tmp_path / "source"
    source.write_bytes(os.urandom(20 * MIB))
    with serve_bucket() as bucket:
        use_endpoint(bucket.address)
        artifacts = open_artifacts("s3://bucket/prefix")
        await artifacts.ping()
        assert await artifacts.put_stream("uploads/a", chunks(*[b"x" * MIB] * 20), limit=20 * MIB) == 20 * MIB
        await artifacts.put_file("features/b.parquet", source)
        async with artifacts.local("features/b.parquet") as path:
            assert path.read_bytes() == source.read_bytes()
        assert await content(artifacts, "uploads/a") == b"x" * 20 * MIB
        assert bucket.largest_body <= module.PART_BYTES
        for key in ("uploads/a", "features/b.parquet", "features/b.parquet"):
            await artifacts.delete(key)
        with pytest.raises(FileNotFoundError):
            await content(artifacts, "uploads/a")
        assert list(bucket.objects) == ["/bucket/prefix/health/ping"]


@pytest.mark.parametrize("sent", [1, 30])
async def test_broken_upload_leaves_no_parts_in_bucket(use_endpoint: Callable[[str], None], sent: int) -> None:
    """A stream that breaks off or is too large leaves neither an object nor parts of a multipart upload."""
    with serve_bucket() as bucket:
        use_endpoint(bucket.address)
        artifacts = open_artifacts("s3://bucket")
        with pytest.raises(ConnectionResetError):
            await artifacts.put_stream("a", chunks(*[b"x" * MIB] * sent, fault=ConnectionResetError()), limit=99 * MIB)
        with pytest.raises(PayloadTooLarge):
            await artifacts.put_stream("a", chunks(*[b"x" * MIB] * (sent + 1)), limit=sent * MIB)
        assert (bucket.objects, bucket.uploads) == ({}, {})


async def test_bucket_is_listed_by_the_thousand(use_endpoint: Callable[[str], None]) -> None:
    """A bucket of more objects than one answer holds is listed to its end, each key as it was given."""
    with serve_bucket() as bucket:
        use_endpoint(bucket.address)
        bucket.objects |= {f"/bucket/prefix/features/{number}/1.parquet": b"abc" for number in range(2_345)}
        bucket.objects |= {"/bucket/prefix/features/no key": b"", "/bucket/other": b"", "/bucket/features/x": b""}
        pages = [page async for page in open_artifacts("s3://bucket/prefix").pages("features")]
    assert max(len(page) for page in pages) <= 1_000
    assert bucket.largest_page == 1_000
    found = {artifact.key for page in pages for artifact in page}
    assert found == {f"features/{number}/1.parquet" for number in range(2_345)}
    assert {artifact.modified_at for page in pages for artifact in page} == {datetime(2026, 3, 2, 12, tzinfo=UTC)}


async def test_unreachable_bucket_is_an_outage(use_endpoint: Callable[[str], None], tmp_path: Path) -> None:
    """A bucket whose endpoint does not answer raises DependencyUnavailable everywhere, without address or key."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        use_endpoint(f"http://127.0.0.1:{taken.getsockname()[1]}")
        artifacts = open_artifacts("s3://bucket/prefix")
        (tmp_path / "source").write_bytes(b"x")
        for call in (
            artifacts.ping(),
            artifacts.delete("a"),
            content(artifacts, "a"),
            listed(artifacts, "a"),
            artifacts.put_file("a", tmp_path / "source"),
            artifacts.put_stream("a", chunks(b"x"), limit=1),
        ):
            with pytest.raises(DependencyUnavailable, match="does not answer") as refused:
                await call
            assert refused.value.retry_after == module.RETRY_SECONDS
            assert "hunter2" not in repr(refused.value.__cause__)


async def test_silent_bucket_is_given_up(use_endpoint: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket that takes the connection and never answers does not hold up a ping."""
    monkeypatch.setattr(module, "PING_TIMEOUT_SECONDS", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        use_endpoint(f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(DependencyUnavailable) as refused:
            await open_artifacts("s3://bucket").ping()
    assert isinstance(refused.value.__cause__, TimeoutError)


def test_process_that_ends_at_once_ends_well(tmp_path: Path) -> None:
    """A process that ends right after its last word with the store is not aborted by the store's threads."""
    code = (
        "import asyncio, sys; from service.store.artifacts import open_artifacts;"
        "asyncio.run(open_artifacts(sys.argv[1]).ping())"
    )
    ended = [subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode for _ in range(12)]
    assert ended == [0] * 12


async def test_folder_that_cannot_be_written_is_an_outage(folder: Path) -> None:
    """A folder that was replaced by something else fails as a dependency."""
    artifacts = open_artifacts(str(folder))
    shutil.rmtree(folder)
    shutil.copy(__file__, folder)
    with pytest.raises(DependencyUnavailable):
        await artifacts.ping()
    with pytest.raises(DependencyUnavailable):
        await artifacts.put_stream("a/b", chunks(b"x"), limit=1)
