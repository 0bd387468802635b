"""What an upload's bytes are: text or something else, in which encoding, with which line ends.

Text comes out as UTF-8 with one kind of line end, which the strict readers that follow need; a file that is so
already is used as it is. Everything works chunk by chunk, whatever the file's size, and runs in a thread.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct

from service.features.errors import DatasetUnreadable

CHUNK_BYTES = 4 * 1024 * 1024
HEAD_BYTES = 1024 * 1024
"""Enough for a header of 10 000 columns and, in any usual file, for some hundred rows."""

Stopped = Callable[[], bool]
"""Says whether the work is no longer wanted; asked at every chunk."""

SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook (.xlsx)"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document (.xls)"),
    (b"\x1f\x8b", "gzip-compressed data"),
    (b"\x28\xb5\x2f\xfd", "Zstandard-compressed data"),
    (b"BZh", "bzip2-compressed data"),
    (b"\xfd7zXZ\x00", "xz-compressed data"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"PAR1", "a Parquet file"),
    (b"ORC", "an ORC file"),
    (b"Obj\x01", "an Avro file"),
    (b"ARROW1", "an Arrow file"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90\x00", "a program"),
)
"""First bytes of the formats that are uploaded by mistake, from their specifications."""

BYTE_ORDER_MARKS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16 LE, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

CONTROL_BYTES = bytes(set(range(0x20)) - set(b"\t\n\x0b\x0c\r\x1b")) + b"\x7f"
CONTROL_SHARE = 0.01
"""Text has next to no control characters; compressed or machine data has about one byte in ten."""

NUL_SHARE_UTF16 = 0.3
"""Western text in UTF-16 has a zero in nearly every second byte; other scripts keep it at line ends and separators."""

TRUSTED_UTF8_RATIO = 4
"""With more than four good multi-byte characters to each bad one it is UTF-8 with damage, not another encoding."""


class PreparedText(Struct, frozen=True):
    """An upload as UTF-8 text."""

    path: Path
    head: str
    """Its first characters, without a byte order mark."""
    complete: bool
    """Whether `head` is the whole text."""
    notes: tuple[str, ...]
    min_rows: int = 0
    """Lines, the header among them; 0 where some of them may be no rows."""


class _Survey(Struct, frozen=True):
    encoding: str
    mark: bytes
    uniform_lines: bool


def signature(head: bytes) -> str | None:
    """What the first bytes look like, in words, when they belong to a known binary format."""
    return next((words for magic, words in SIGNATURES if head.startswith(magic)), None)


def read_head(path: Path, size: int = HEAD_BYTES) -> bytes:
    """The file's first bytes. Raises DatasetUnreadable when there are none."""
    with path.open("rb") as file:
        head = file.read(size)
    if not head:
        raise DatasetUnreadable("The file is empty. Send a file with a header and at least one row.")
    return head


def prepare_text(path: Path, folder: Path, claimed: str, stopped: Stopped) -> PreparedText:
    """Check that the upload is text and give it as UTF-8, rewritten into `folder` only where that is needed.

    Raises DatasetUnreadable, saying what the bytes look like instead.
    """
    head = read_head(path)
    _require_text(head, claimed)
    found = _survey(path, head, stopped)
    notes = () if found.encoding == "utf-8" else (f"encoding: {found.encoding}",)
    if found.encoding == "utf-8" and not found.mark and found.uniform_lines:
        return _prepared(path, claimed, notes, stopped)
    target = folder / "upload.txt"
    encoding = _transcode(path, target, found, stopped)
    return _prepared(target, claimed, (f"encoding: {encoding}",) if notes else (), stopped)


def line_at(path: Path, offset: int) -> int:
    """The 1-based line that the byte at `offset` stands on."""
    line, left = 1, offset
    with path.open("rb") as file:
        while left > 0 and (chunk := file.read(min(left, CHUNK_BYTES))):
            line += chunk.count(b"\n")
            left -= len(chunk)
    return line


def _prepared(path: Path, claimed: str, notes: tuple[str, ...], stopped: Stopped) -> PreparedText:
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        complete = not file.read(1)
    text = codecs.getincrementaldecoder("utf-8")().decode(head)
    if not text.strip():
        raise DatasetUnreadable("The file holds only blank lines. Send a file with a header and at least one row.")
    return PreparedText(path, text, complete, notes, _min_rows(path, claimed, stopped))


def _min_rows(path: Path, claimed: str, stopped: Stopped) -> int:
    """Count lines; 0 where some may be no rows: with blank lines, or with quotes, which hold lines in CSV."""
    doubtful = (b"\n\n", b"\n\r\n") if claimed == "NDJSON" else (b"\n\n", b"\n\r\n", b'"', b"'")
    rows = 0
    for chunk in _chunks(path, stopped):
        if any(bytes_ in chunk for bytes_ in doubtful):
            return 0
        rows += chunk.count(b"\n")
    return rows


def _chunks(path: Path, stopped: Stopped) -> Iterator[bytes]:
    with path.open("rb") as file:
        while not stopped() and (chunk := file.read(CHUNK_BYTES)):
            yield chunk


def _require_text(head: bytes, claimed: str) -> None:
    found = signature(head)
    start = head.lstrip(codecs.BOM_UTF8 + b" \t\r\n")[:64].lower()
    if found is None and start.startswith((b"<!doctype html", b"<html", b"<?xml")):
        found = "an HTML or XML document"
    if found is not None:
        raise DatasetUnreadable(f"The file was sent as {claimed}, but it looks like {found}. Export it as {claimed}.")


def _encoding_of(head: bytes) -> tuple[str, bytes] | None:
    """Encoding and byte order mark, where the first bytes tell; None means UTF-8 or an 8-bit encoding."""
    for mark, encoding in BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return encoding, mark
    half = max(len(head) // 2, 1)
    even, odd = head[0::2].count(0) / half, head[1::2].count(0) / half
    if odd > NUL_SHARE_UTF16 and even < odd / 10:
        return "utf-16-le", b""
    if even > NUL_SHARE_UTF16 and odd < even / 10:
        return "utf-16-be", b""
    return None


def _survey(path: Path, head: bytes, stopped: Stopped) -> _Survey:
    marked = _encoding_of(head)
    if marked is not None and marked[0] != "utf-8":
        return _Survey(*marked, uniform_lines=False)
    if len(head.translate(None, CONTROL_BYTES)) < len(head) * (1 - CONTROL_SHARE):
        raise _binary()
    encoding = _verified_encoding(path, stopped)
    return _Survey(encoding, marked[1] if marked else b"", _has_uniform_lines(path, stopped))


def _verified_encoding(path: Path, stopped: Stopped) -> str:
    """UTF-8 when every byte of the file agrees, else Windows-1252 (which Latin-1 text nearly always is)."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    position = good = 0
    for chunk in _chunks(path, stopped):
        if b"\0" in chunk:
            raise _binary()
        try:
            good += len(chunk) - len(decoder.decode(chunk))
        except UnicodeDecodeError:
            return _fallback(path, chunk, position, good)
        position += len(chunk)
    try:
        decoder.decode(b"", final=not stopped())
    except UnicodeDecodeError:
        return _fallback(path, b"\xff", position, good)
    return "utf-8"


def _fallback(path: Path, chunk: bytes, position: int, good_bytes: int) -> str:
    text = chunk.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    good = good_bytes + sum(len(run) for run in re.findall(r"[^\x00-\x7f\ufffd]+", text))
    if good <= TRUSTED_UTF8_RATIO * bad:
        return "windows-1252"
    clean = chunk.decode("utf-8", "ignore") if bad == 0 else text[: text.index("\ufffd")]
    line = line_at(path, position + len(clean.encode()))
    raise DatasetUnreadable(
        f"The file is UTF-8 but for a few bytes, the first of them on line {line}. Save it as UTF-8 again."
    )


def _has_uniform_lines(path: Path, stopped: Stopped) -> bool:
    """Whether every line ends alike, with a line feed or with a carriage return and a line feed."""
    returns = feeds = pairs = 0
    last = b""
    for chunk in _chunks(path, stopped):
        returns += chunk.count(b"\r")
        feeds += chunk.count(b"\n")
        pairs += chunk.count(b"\r\n") + (last == b"\r" and chunk.startswith(b"\n"))
        last = chunk[-1:]
    return returns == 0 or returns == feeds == pairs


def _transcode(path: Path, target: Path, found: _Survey, stopped: Stopped) -> str:
    """Rewrite the text as UTF-8 with line feeds; gives the name of the encoding that it was read in."""
    try:
        _rewrite(path, target, found, stopped)
    except UnicodeDecodeError as error:
        if found.encoding != "windows-1252":
            raise DatasetUnreadable(
                f"The file begins as {found.encoding} text and is not. Save it as UTF-8."
            ) from error
        _rewrite(path, target, _Survey("latin-1", b"", uniform_lines=False), stopped)
        return "latin-1"
    return found.encoding


def _rewrite(path: Path, target: Path, found: _Survey, stopped: Stopped) -> None:
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(found.encoding)(), translate=True)
    skip = len(found.mark)
    with target.open("wb") as file:
        for chunk in _chunks(path, stopped):
            file.write(_checked(decoder.decode(chunk[skip:])).encode())
            skip = 0
        file.write(_checked(decoder.decode(b"", final=not stopped())).encode())


def _checked(text: str) -> str:
    if "\0" in text:
        raise _binary()
    return text


def _binary() -> DatasetUnreadable:
    return DatasetUnreadable("The file is binary data, not text. Export the table as CSV, NDJSON or Parquet.")
