"""Bound what the work of one request may use of the machine, and how large a dataset may be."""

from __future__ import annotations

from msgspec import Struct

from service.features.errors import DatasetTooLarge, DatasetUnreadable

REHEARSAL_SECONDS = 5.0
"""For trying a plan on a sample, waiting for a turn included."""
CELL_BYTES = 8
"""What a cell takes at least once it is materialised."""
FREE_EXPANSION_BYTES = 256 * 2**20
"""A dataset may become this large whatever the size of its file."""
MAX_EXPANSION = 1_000
"""Above that, how many times the size of its file it may become."""


class Limits(Struct, frozen=True):
    """What one sandbox may use."""

    memory_bytes: int
    """Of the buffer manager; the process's resident memory can be up to twice that."""
    threads: int
    scratch_bytes: int
    """Disk space for spilled intermediate results."""
    seconds: float
    """Time that the sandbox's work may take altogether, if the deadline around it does not come first."""
    max_rows: int = 100_000_000
    """Of a dataset."""
    max_cells: int = 2_000_000_000
    """Rows times columns of a dataset."""

    def require_size(self, rows: int, columns: int) -> None:
        """Raise DatasetTooLarge for a dataset with more rows or cells than is allowed."""
        if rows > self.max_rows:
            raise DatasetTooLarge(
                f"The dataset has {rows:,} rows; at most {self.max_rows:,} are allowed. Send fewer rows."
            )
        if rows * columns > self.max_cells:
            raise DatasetTooLarge(
                f"The dataset has {rows:,} rows of {columns:,} columns, which is {rows * columns:,} cells; at most "
                f"{self.max_cells:,} are allowed. Send fewer rows or columns."
            )


def require_expansion(file_bytes: int, rows: int, columns: int, uncompressed_bytes: int = 0) -> None:
    """Raise DatasetUnreadable for a file that becomes far larger than itself: a decompression bomb."""
    expanded = max(rows * columns * CELL_BYTES, uncompressed_bytes)
    if expanded > max(FREE_EXPANSION_BYTES, MAX_EXPANSION * file_bytes):
        raise DatasetUnreadable(
            f"The file of {file_bytes:,} bytes expands to at least {expanded:,} bytes. A dataset of more than "
            f"{FREE_EXPANSION_BYTES // 2**20} MiB may be at most {MAX_EXPANSION:,} times as large as its file."
        )
