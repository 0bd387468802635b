"""A bucket on localhost: as much of the S3 protocol as storing, reading, listing and removing objects takes."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

PAGE = 1000
"""S3 lists no more objects in one answer."""


@dataclass
class Bucket:
    """What the stub holds."""

    address: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    """Parts of multipart uploads that are neither completed nor aborted; they would go on costing money."""
    refuses: bool = False
    """Whether it refuses all that is written, as with wrong credentials."""
    largest_body: int = 0
    largest_page: int = 0
    """Objects listed in one answer."""


class _Handler(BaseHTTPRequestHandler):
    bucket: Bucket
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        path, query = self._target()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.bucket.largest_body = max(self.bucket.largest_body, len(body))
        if self.bucket.refuses:
            self._answer(403, b"<Error><Code>InvalidAccessKeyId</Code></Error>")
            return
        if "uploadId" in query:
            self.bucket.uploads[query["uploadId"]][int(query["partNumber"])] = body
        else:
            self.bucket.objects[path] = body
        self._answer(200)

    def do_POST(self) -> None:
        path, query = self._target()
        body = self.rfile.read(int(self.headers["Content-Length"] or 0)).decode()
        if "uploads" in query:
            upload = f"upload-{len(self.bucket.uploads)}"
            self.bucket.uploads[upload] = {}
            fields = f"<Bucket>b</Bucket><Key>k</Key><UploadId>{upload}</UploadId>"
            self._answer(200, f"<InitiateMultipartUploadResult>{fields}</InitiateMultipartUploadResult>".encode())
        elif "delete" in query:
            keys = re.findall("<Key>(.*?)</Key>", body)
            for key in keys:
                self.bucket.objects.pop(f"{path}/{key}", None)
            deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
            self._answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())
        else:
            parts = self.bucket.uploads.pop(query["uploadId"])
            self.bucket.objects[path] = b"".join(parts[number] for number in sorted(parts))
            result = "<CompleteMultipartUploadResult><ETag>&quot;e&quot;</ETag></CompleteMultipartUploadResult>"
            self._answer(200, result.encode())

    def do_GET(self) -> None:
        path, query = self._target()
        if "list-type" in query:
            self._list(f"{path}/", query)
            return
        found = self.bucket.objects.get(path)
        self._answer(404 if found is None else 200, found or b"")

    def _list(self, bucket: str, query: dict[str, str]) -> None:
        """ListObjectsV2: in the order of their keys, a page at a time."""
        start = bucket + query.get("prefix", "")
        after = query.get("continuation-token", "")
        keys = sorted(key for key in self.bucket.objects if key.startswith(start) and key > after)
        page = keys[: int(query.get("max-keys", PAGE))]
        self.bucket.largest_page = max(self.bucket.largest_page, len(page))
        contents = "".join(
            f"<Contents><Key>{escape(key.removeprefix(bucket))}</Key><Size>{len(self.bucket.objects[key])}</Size>"
            f"<LastModified>2026-03-02T12:00:00.000Z</LastModified><ETag>e</ETag></Contents>"
            for key in page
        )
        more = f"<NextContinuationToken>{page[-1]}</NextContinuationToken>" if len(page) < len(keys) else ""
        truncated = f"<IsTruncated>{str(bool(more)).lower()}</IsTruncated>"
        self._answer(200, f"<ListBucketResult>{truncated}{contents}{more}</ListBucketResult>".encode())

    def do_DELETE(self) -> None:
        _, query = self._target()
        self.bucket.uploads.pop(query["uploadId"], None)
        self._answer(204)

    def _target(self) -> tuple[str, dict[str, str]]:
        address = urlsplit(self.path)
        return address.path, {
            name: values[0] for name, values in parse_qs(address.query, keep_blank_values=True).items()
        }

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("ETag", '"e"')
        self.send_header("Last-Modified", "Mon, 02 Mar 2026 12:00:00 GMT")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def serve_bucket() -> Iterator[Bucket]:
    """A bucket that answers at its address until the block ends."""
    bucket = Bucket()
    handler = type("Handler", (_Handler,), {"bucket": bucket})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        bucket.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield bucket
        server.shutdown()
        thread.join()
