"""Every operation with what it declares and what holds it: the table that `make operations` prints."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from service.engines.sql.dialects import DIALECTS
from service.features.operations import REGISTRY, OperationSpec
from tests.operations.engines import ENGINES
from tests.operations.golden import ENTITY_CASES, ROW_CASES
from tests.operations.test_basic_oracles import VARIANTS

HEAD = (
    "operation", "grain", "gives", "reads", "fits", "cost", "null", "values", "calendar", "oracle", "golden",
    "computed by", "spelled for",
)  # fmt: skip
"""`oracle` counts the variants that are compared with plain Python, `golden` those worked out by hand."""


def rows() -> list[tuple[str, ...]]:
    """One row for each operation."""
    oracles = _counts(VARIANTS)
    golden = _counts(operation for operation, _ in (*ROW_CASES, *ENTITY_CASES))
    return [_row(spec, oracles.get(spec.kind, 0), golden.get(spec.kind, 0)) for spec in REGISTRY.values()]


def table(of: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """The rows under their heads, in columns as wide as their longest cell."""
    lines = [HEAD, *of]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def _counts(operations: Iterable[object]) -> dict[str, int]:
    kinds = {spec.type: kind for kind, spec in REGISTRY.items()}
    counts: dict[str, int] = {}
    for operation in operations:
        kind = kinds[type(operation)]  # type: ignore[index] - operations alone are counted
        counts[kind] = counts.get(kind, 0) + 1
    return counts


def _row(spec: OperationSpec, oracles: int, golden: int) -> tuple[str, ...]:
    never = spec.nulls.startswith("never")
    engines = ENGINES if golden else ("duckdb",)
    marks = ["yes" if fact else "-" for fact in (spec.publishes_values, spec.follows_calendar)]
    declared = (spec.kind, spec.grain, spec.dtype or "column's", spec.sees, spec.fits, spec.cost)
    held = (str(oracles or "-"), str(golden or "-"), " ".join(engines), " ".join(DIALECTS))
    return (*declared, "never" if never else "may be", *marks, *held)


if __name__ == "__main__":
    found = rows()
    held = sum(row[HEAD.index("oracle")] != "-" for row in found)
    sys.stdout.write("\n".join((*table(found), "", f"{len(found)} operations, {held} with an oracle", "")))
