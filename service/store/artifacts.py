"""Files by key: uploads, datasets and feature tables, in a folder or an object store."""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, MemoryStore, ObjectStore, from_url

from service.features.errors import DependencyUnavailable, PayloadTooLarge
from service.features.ports import Artifacts

KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
"""No segment begins with a dot, so no key leaves its store or meets a hidden file."""
KEY_LENGTH = 512
PART_BYTES = 8 * 2**20
"""S3 takes at most 10 000 parts an object: 80 GB."""
PARTS_IN_FLIGHT = 2
CHUNK_BYTES = 2**20
PING_KEY = "health/ping"
PING_SECONDS = 5.0
RETRY_SECONDS = 3.0


def open_artifacts(url: str) -> Artifacts:
    """The artifact store at `file:///folder`, a plain path, `memory:///`, `s3://bucket/prefix`, `gs://…` or `az://…`.

    A folder is made when it is missing; remote stores read their credentials and endpoints from the standard
    variables of their cloud (`AWS_…`, `GOOGLE_…`, `AZURE_…`) and are not contacted yet. Raises ValueError for any
    other address, OSError for a folder that cannot be made.
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
        # Client options given here would displace the standard variables for them, such as AWS_ALLOW_HTTP.
        store = from_url(url, retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=20)})
    except (BaseError, ValueError):
        raise ValueError(
            "The artifact address cannot be used; it looks like s3://bucket/prefix (az://container/prefix also needs "
            "AZURE_STORAGE_ACCOUNT_NAME)."
        ) from None
    return ObjectArtifacts(store)


class ObjectArtifacts:
    """Artifacts in any store that obstore knows; implements `ports.Artifacts`.

    Every write is atomic: an object appears whole or not at all, also when its stream breaks off or its task is
    cancelled. Methods raise ValueError for a key that may not be, FileNotFoundError for one that is not there, and
    DependencyUnavailable when the store does not answer.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes], *, limit: int) -> int:
        """Store a stream and give its size in bytes. Raises PayloadTooLarge over `limit` bytes, leaving nothing.

        At most a few parts of the stream are in memory at once.
        """
        meter = _Meter(chunks, limit)
        with _store_errors():
            await obstore.put_async(
                self._store, _checked(key), meter, chunk_size=PART_BYTES, max_concurrency=PARTS_IN_FLIGHT
            )
        return meter.size

    async def put_file(self, key: str, path: Path) -> None:
        """Store a local file under the key, atomically."""
        with _store_errors():
            await obstore.put_async(
                self._store, _checked(key), path, chunk_size=PART_BYTES, max_concurrency=PARTS_IN_FLIGHT
            )

    @asynccontextmanager
    async def local(self, key: str) -> AsyncGenerator[Path]:
        """A temporary copy of the artifact, removed when the block ends."""
        with tempfile.TemporaryDirectory(prefix="artifact-") as folder:
            path = Path(folder) / f"artifact{Path(_checked(key)).suffix}"
            with path.open("wb") as copy:
                async for chunk in self.stream(key):
                    await asyncio.to_thread(copy.write, chunk)
            yield path

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        """The artifact's bytes in chunks of about a MiB."""
        with _store_errors():
            found = await obstore.get_async(self._store, _checked(key))
            async for chunk in found.stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(chunk)

    async def delete(self, key: str) -> None:
        """Remove the artifact; no error when there is none."""
        with _store_errors(), suppress(FileNotFoundError):
            await obstore.delete_async(self._store, _checked(key))

    async def ping(self) -> None:
        """Raises DependencyUnavailable when nothing can be written to the store within `PING_SECONDS`."""
        try:
            with _store_errors():
                async with asyncio.timeout(PING_SECONDS):
                    await obstore.put_async(self._store, PING_KEY, b"ping")
        except TimeoutError as error:
            raise _unavailable() from error


class FolderArtifacts(ObjectArtifacts):
    """Artifacts in a local folder: folders of mode 0700, files of mode 0600, and no copies for readers."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        super().__init__(LocalStore(prefix=folder))
        self._folder = folder

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes], *, limit: int) -> int:
        """Store a stream and give its size in bytes. Raises PayloadTooLarge over `limit` bytes, leaving nothing."""
        self._prepare(key)
        size = await super().put_stream(key, chunks, limit=limit)
        self._path(key).chmod(0o600)
        return size

    async def put_file(self, key: str, path: Path) -> None:
        """Store a local file under the key, atomically."""
        self._prepare(key)
        await super().put_file(key, path)
        self._path(key).chmod(0o600)

    @asynccontextmanager
    async def local(self, key: str) -> AsyncGenerator[Path]:
        """The stored file itself; read only."""
        path = self._path(key)
        if not path.is_file():
            raise FileNotFoundError(f"there is no artifact {key}")
        yield path

    async def ping(self) -> None:
        """Raises DependencyUnavailable when nothing can be written to the folder."""
        self._prepare(PING_KEY)
        await super().ping()

    def _path(self, key: str) -> Path:
        return self._folder / _checked(key)

    def _prepare(self, key: str) -> None:
        """Make the key's folder private before obstore makes it public: a file's mode follows once it is complete."""
        try:
            self._path(key).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _unavailable() from error


class _Meter:
    """Counts the bytes of a stream and ends it when they are too many."""

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


def _checked(key: str) -> str:
    if len(key) > KEY_LENGTH or not KEY.fullmatch(key):
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
