"""Every operation by its kind, gathered from the families' modules, and the tagged union of them all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, Union

import msgspec

from service.features.operations import (
    across,
    activity,
    aggregates,
    calendar,
    categories,
    comparisons,
    dates,
    encodings,
    ends,
    events,
    groups,
    history,
    inventories,
    lookback,
    measures,
    places,
    scaling,
    sequences,
    series,
    shaping,
    text,
    values,
)
from service.features.operations.operation import (
    Operation,
    OperationIncomplete,
    OperationSpec,
    declaration,
    is_compiled,
    is_tagged,
)

FAMILIES: tuple[ModuleType, ...] = (
    values, shaping, across, calendar, dates, text, places, groups, scaling, encodings, history, lookback, aggregates,
    measures, activity, categories, inventories, ends, sequences, events, series, comparisons,
)  # fmt: skip
"""Modules that hold operations, in the order in which these are listed to planners and readers."""


def operations_in(family: ModuleType) -> Iterator[type[Operation]]:
    """The operations that a module defines, in its order. Raises OperationIncomplete for one without a tag."""
    for content in vars(family).values():
        if not (isinstance(content, type) and issubclass(content, Operation) and content.__module__ == family.__name__):
            continue
        if is_tagged(content) or is_compiled(content):
            yield content


def register(operations: Iterable[type[Operation]]) -> dict[str, OperationSpec]:
    """What the classes declare, by kind. Raises OperationIncomplete, also when two classes have one kind."""
    specs: dict[str, OperationSpec] = {}
    for operation in operations:
        spec = declaration(operation)
        if spec.kind in specs:
            raise OperationIncomplete(f"{operation.__qualname__} has the kind {spec.kind!r} of another operation")
        specs[spec.kind] = spec
    return specs


REGISTRY: dict[str, OperationSpec] = register(operation for family in FAMILIES for operation in operations_in(family))
"""Every operation by its kind."""


def union_of(specs: Iterable[OperationSpec]) -> Any:
    """The tagged union of the operations: what decodes any of them by its `kind`."""
    return Union[tuple(spec.type for spec in specs)]  # noqa: UP007 -- made of a tuple


if TYPE_CHECKING:
    AnyOperation = Operation
else:
    AnyOperation = union_of(REGISTRY.values())
"""The tagged union that plans, reports and the wire carry."""


@cache
def operations_version() -> str:
    """Short hash of all that operations declare, their parameters included: other operations, other version.

    It takes some 10 ms the first time, which is why it is not made at import.
    """
    names = [name for name in OperationSpec.__struct_fields__ if name != "type"]
    declared = [[getattr(spec, name) for name in names] for spec in REGISTRY.values()]
    schemas = msgspec.json.schema_components([spec.type for spec in REGISTRY.values()])
    return hashlib.sha256(msgspec.json.encode((declared, schemas), order="deterministic")).hexdigest()[:16]
