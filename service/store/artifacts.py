"""Store files by key in a folder or an object store: uploads, datasets and feature tables."""

from __future__ import annotations

import asyncio
import atexit
import os
import re
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, MemoryStore, ObjectStore, from_url

from service.features.errors import DependencyUnavailable, PayloadTooLarge
from service.features.ports import Artifacts, StoredArtifact

KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
"""No segment begins with a dot, so no key leaves the store or names a hidden file."""
MAX_KEY_LENGTH = 512
PART_BYTES = 8 * 2**20
"""S3 takes at most 10 000 parts for each object: 80 GB. A folder takes any number of smaller ones (CHUNK_BYTES)."""
MAX_CONCURRENT_PARTS = 2
CHUNK_BYTES = 2**20
PAGE_SIZE = 1000
"""S3's limit for one response."""
STAGED = re.compile(r".+#[0-9]+")
"""The name of a file in a folder until it is complete."""
PING_KEY = "health/ping"
PING_TIMEOUT_SECONDS = 5.0
RETRY_SECONDS = 3.0
EXIT_DELAY_SECONDS = 0.05


def open_artifacts(url: str) -> Artifacts:
    """Open the store at `file:///folder`, a plain path, `memory:///`, `s3://bucket/prefix`, `gs://…` or `az://…`.

    A missing folder is created; remote stores read their credentials and endpoints from the standard variables of
    their cloud (`AWS_…`, `GOOGLE_…`, `AZURE_…`) and are not contacted yet. Raises ValueError for any other address,
    OSError for a folder that cannot be created.
    """
    scheme = urlsplit(url).scheme if "://" in url else ""
    if scheme in {"", "file"}:
        path = url2pathname(urlsplit(url).path) if scheme else url
        return FolderArtifacts(Path(path).expanduser().absolute())
    if scheme == "memory":
        return ObjectArtifacts(MemoryStore())
    if scheme not in {"s3", "gs", "az"}:
        raise ValueError("The artifact address must be a folder, or begin with file://, s3://, gs:// or az://.")
    try:
        # Client options given here would override the standard variables, such as AWS_ALLOW_HTTP.
        store = from_url(url, retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=20)})
    except (BaseError, ValueError):
        raise ValueError(
            "The artifact address cannot be used; it looks like s3://bucket/prefix (az://container/prefix also needs "
            "AZURE_STORAGE_ACCOUNT_NAME)."
        ) from None
    return ObjectArtifacts(store)


class ObjectArtifacts:
    """Implement `ports.Artifacts` for any store that obstore supports.

    Every write is atomic: an object appears whole or not at all, also when its stream fails or its task is cancelled.
    Methods raise ValueError for a malformed key, FileNotFoundError for a missing artifact, and DependencyUnavailable
    when the store does not answer.
    """

    def __init__(self, store: ObjectStore, *, part_bytes: int = PART_BYTES) -> None:
        """Write streams in parts of so many bytes, of which a few are in memory at once."""
        self._part_bytes = part_bytes
        self._store = store
        atexit.unregister(_wait_for_threads)
        atexit.register(_wait_for_threads)

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes], *, limit: int) -> int:
        """Store a stream and return its size in bytes. Raises PayloadTooLarge over `limit` bytes, leaving nothing.

        At most a few parts of the stream are in memory at once.
        """
        meter = _Meter(chunks, limit)
        with _store_errors():
            await obstore.put_async(
                self._store, _checked(key), meter, chunk_size=self._part_bytes, max_concurrency=MAX_CONCURRENT_PARTS
            )
        return meter.size

    async def put_file(self, key: str, path: Path) -> None:
        """Store a local file under the key, atomically."""
        with _store_errors():
            await obstore.put_async(
                self._store, _checked(key), path, chunk_size=self._part_bytes, max_concurrency=MAX_CONCURRENT_PARTS
            )

    async def copy(self, source: str, target: str) -> None:
        """Copy the artifact to another key, within the store."""
        with _store_errors():
            await obstore.copy_async(self._store, _checked(source), _checked(target))

    @asynccontextmanager
    async def local(self, key: str) -> AsyncGenerator[Path]:
        """Give a temporary copy of the artifact, removed when the block ends."""
        with tempfile.TemporaryDirectory(prefix="artifact-") as folder:
            path = Path(folder) / f"artifact{Path(_checked(key)).suffix}"
            with path.open("wb") as copy:
                async for chunk in self.stream(key):
                    await asyncio.to_thread(copy.write, chunk)
            yield path

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        """Read the artifact in chunks of about a MiB."""
        with _store_errors():
            found = await obstore.get_async(self._store, _checked(key))
            async for chunk in found.stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(chunk)

    async def size(self, key: str) -> int:
        """Return the artifact's bytes, without reading it."""
        with _store_errors():
            return (await obstore.head_async(self._store, _checked(key)))["size"]

    async def delete(self, key: str) -> None:
        """Remove the artifact; no error when there is none."""
        with _store_errors(), suppress(FileNotFoundError):
            await obstore.delete_async(self._store, _checked(key))

    async def pages(self, prefix: str) -> AsyncIterator[tuple[StoredArtifact, ...]]:
        """List all artifacts below a prefix, `PAGE_SIZE` at a time, leaving out files whose names are no keys."""
        with _store_errors():
            listing = obstore.list(  # pyright: ignore[reportUnknownMemberType] -- Arrow, which it can also give, has no types
                self._store, _checked(prefix), chunk_size=PAGE_SIZE
            )
            async for found in listing:
                yield tuple(
                    StoredArtifact(item["path"], item["size"], item["last_modified"])
                    for item in found
                    if KEY.fullmatch(item["path"])
                )

    async def tidy(self, before: datetime) -> int:  # noqa: ARG002 -- the port's signature
        """Do nothing: a lifecycle rule of the bucket removes incomplete multipart uploads."""
        return 0

    async def ping(self) -> None:
        """Raises DependencyUnavailable when nothing can be written to the store within `PING_TIMEOUT_SECONDS`."""
        try:
            with _store_errors():
                async with asyncio.timeout(PING_TIMEOUT_SECONDS):
                    await obstore.put_async(self._store, PING_KEY, b"ping")
        except TimeoutError as error:
            raise _unavailable() from error


class FolderArtifacts(ObjectArtifacts):
    """Store artifacts in a local folder, with modes 0700 and 0600 and without copies for readers."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        super().__init__(LocalStore(prefix=folder), part_bytes=CHUNK_BYTES)
        self._folder = folder

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes], *, limit: int) -> int:
        """Store a stream and return its size in bytes. Raises PayloadTooLarge over `limit` bytes, leaving nothing."""
        self._prepare(key)
        size = await super().put_stream(key, chunks, limit=limit)
        self._path(key).chmod(0o600)
        return size

    async def put_file(self, key: str, path: Path) -> None:
        """Store a local file under the key, atomically."""
        self._prepare(key)
        await super().put_file(key, path)
        self._path(key).chmod(0o600)

    async def copy(self, source: str, target: str) -> None:
        """Add a hard link: no artifact is ever changed in place, and each name is removed by itself.

        Both names get the present time, so that no sweep removes the new one before its row exists.
        """
        path, copy = f"{self._folder}/{_checked(source)}", f"{self._folder}/{_checked(target)}"
        try:
            try:
                os.mkdir(copy.rpartition("/")[0], 0o700)  # noqa: PTH102 -- pathlib takes longer than the call
            except (FileExistsError, FileNotFoundError):
                self._prepare(target)
            os.link(path, copy)
            os.utime(copy)
        except FileNotFoundError:
            raise
        except OSError:  # a file system without hard links, or too many of them
            await self.put_file(target, Path(path))

    @asynccontextmanager
    async def local(self, key: str) -> AsyncGenerator[Path]:
        """Give the stored file itself, which must not be changed."""
        path = self._path(key)
        if not path.is_file():
            raise FileNotFoundError(f"there is no artifact {key}")
        yield path

    async def tidy(self, before: datetime) -> int:
        """Remove empty folders and files left incomplete before that time; returns the number of files."""
        try:
            return await asyncio.to_thread(_remove_incomplete, self._folder, before.timestamp())
        except OSError as error:
            raise _unavailable() from error

    async def ping(self) -> None:
        """Raises DependencyUnavailable when nothing can be written to the folder."""
        self._prepare(PING_KEY)
        await super().ping()

    def _path(self, key: str) -> Path:
        return self._folder / _checked(key)

    def _prepare(self, key: str) -> None:
        """Create the key's folders with mode 0700, before obstore creates them readable by all."""
        parents = [parent for parent in self._path(key).parents if parent.is_relative_to(self._folder)]
        try:
            for parent in reversed(parents):
                parent.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise _unavailable() from error


class _Meter:
    """Count the bytes of a stream, and raise PayloadTooLarge over the limit."""

    def __init__(self, chunks: AsyncIterator[bytes], limit: int) -> None:
        self._chunks = chunks
        self._limit = limit
        self.size = 0

    def __aiter__(self) -> _Meter:
        return self

    async def __anext__(self) -> bytes:
        chunk = await anext(self._chunks)
        self.size += len(chunk)
        if self.size > self._limit:
            raise PayloadTooLarge(f"The body is larger than the limit of {self._limit} bytes.")
        return chunk


def _wait_for_threads() -> None:
    """Wait for obstore's threads before the interpreter shuts down.

    About one in eight processes that exited right after a call was aborted (SIGABRT): the thread that passes the result
    on may still hold the interpreter (PyO3/pyo3-async-runtimes#40, which has no shutdown).
    """
    time.sleep(EXIT_DELAY_SECONDS)


def _remove_incomplete(root: Path, before: float) -> int:
    count = 0
    for folder, _, names in os.walk(root, topdown=False):
        for path in (Path(folder, name) for name in names if STAGED.fullmatch(name)):
            with suppress(FileNotFoundError):  # it has been completed meanwhile
                if path.stat().st_mtime < before:
                    path.unlink()
                    count += 1
        with suppress(OSError):  # not empty, or gone
            if Path(folder) != root and Path(folder).stat().st_mtime < before:
                Path(folder).rmdir()
    return count


def _checked(key: str) -> str:
    if len(key) > MAX_KEY_LENGTH or not KEY.fullmatch(key):
        raise ValueError("an artifact's key is made of A-Z a-z 0-9 . _ - and /, and no part begins with a dot")
    return key


@contextmanager
def _store_errors() -> Generator[None]:
    try:
        yield
    except BaseError as error:
        raise _unavailable() from error


def _unavailable() -> DependencyUnavailable:
    return DependencyUnavailable("The artifact store does not answer.", retry_after=RETRY_SECONDS)
