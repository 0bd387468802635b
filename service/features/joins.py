"""Decide how a related dataset joins, by which of its sides has unique keys; refuse what would multiply rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from service.features.errors import InvalidRequest
from service.features.layout import Join, JoinKind, Table
from service.features.model import ColumnProfile, Dataset, FieldError, Profile
from service.features.operations import ENTITY
from service.features.operations.literals import Storage, storage_of
from service.features.table_options import RelatedTable

NUMBERS: frozenset[Storage] = frozenset({"integer", "number"})
MAX_JOINING = 200
MAX_SUGGESTED = 50


class OtherColumn(Struct, frozen=True):
    """A column of another dataset."""

    dataset_id: str
    row_count: int
    column: ColumnProfile


class SuggestedJoin(Struct, frozen=True):
    """A dataset that could be related to another one."""

    dataset_id: str
    on: str
    """Its column."""
    to_on: str
    """The other one's."""
    kind: JoinKind


def invalid(faults: Sequence[FieldError]) -> InvalidRequest:
    """Return the error for options that cannot be used."""
    return InvalidRequest("The options do not fit the data.", errors=faults)


def joined(tables: Sequence[Table], wanted: RelatedTable, dataset: Dataset, path: str) -> Table:
    """Return the related table with its join. Raises InvalidRequest."""
    if wanted.on is not None:
        _require(dataset.profile, wanted.on, f"{path}.on", dataset.id)
    to = _target(tables, wanted, path)
    if wanted.time is not None:
        time = _require(dataset.profile, wanted.time, f"{path}.time", dataset.id)
        if time.logical_type != "datetime":
            raise invalid([FieldError(f"{path}.time", f"{time.name!r} is {time.logical_type}, no datetime")])
        if wanted.on == wanted.time:
            fault = "is the time itself, which only rows of the very instant share: leave `on` out for the latest row"
            raise invalid([FieldError(f"{path}.on", fault)])
    kind, prefix = _kind(tables[to], wanted, dataset, path), f"{wanted.called}."
    if wanted.days_before is not None and kind != "as_of":
        raise invalid([FieldError(f"{path}.days_before", "is for a table that is looked up as of a time: give `time`")])
    return Table(dataset, prefix, Join(kind, to, wanted.on, wanted.other, wanted.time, wanted.days_before))


def _kind(table: Table, wanted: RelatedTable, dataset: Dataset, path: str) -> JoinKind:
    if wanted.on is None or wanted.other is None:
        if wanted.time is None:
            raise invalid([FieldError(f"{path}.on", "give the column that joins, or `time` for the latest row")])
        return "as_of"
    own = _require(dataset.profile, wanted.on, f"{path}.on", dataset.id)
    other = _require(table.profile, wanted.other, f"{path}.to_on", table.dataset.id)
    if not comparable(own, other):
        fault = f"{dataset.id}'s {own.name!r} is {own.physical_type}, {table.dataset.id}'s {other.name!r} "
        raise invalid([FieldError(f"{path}.on", f"{fault}{other.physical_type}: their values cannot be equal")])
    return _kind_by_keys(dataset, own, table, other, wanted, path)


def _require(profile: Profile, name: str, path: str, dataset_id: str) -> ColumnProfile:
    column = profile.column(name)
    if column is None:
        raise invalid([FieldError(path, f"the dataset {dataset_id!r} has no column {name!r}")])
    return column


def _target(tables: Sequence[Table], wanted: RelatedTable, path: str) -> int:
    """Return the place of the table that it joins."""
    for place, table in enumerate(tables):
        if wanted.to == table.name or (wanted.to is None and wanted.other is None):
            return place
        if wanted.to is None and wanted.other is not None and table.profile.column(wanted.other) is not None:
            return place
    if wanted.to is not None:
        raise invalid([FieldError(f"{path}.to", "is neither the request's dataset nor one listed before")])
    raise invalid([FieldError(f"{path}.on", f"no dataset listed before has a column {wanted.other!r}: give `to_on`")])


def comparable(own: ColumnProfile, other: ColumnProfile) -> bool:
    """Whether values of the two columns can be equal."""
    kinds = frozenset({storage_of(own), storage_of(other)})
    return len(kinds) == 1 or kinds == NUMBERS


def _kind_by_keys(
    dataset: Dataset, own: ColumnProfile, table: Table, other: ColumnProfile, wanted: RelatedTable, path: str
) -> JoinKind:
    if is_unique(own, dataset.profile.row_count):
        return "parent" if wanted.time is None else "as_of"
    if is_unique(other, table.profile.row_count):
        if table.join is not None and table.join.kind != "child":
            fault = f"{table.dataset.id!r} is looked up: its children belong to no row of the request's dataset"
            raise invalid([FieldError(f"{path}.to", fault)])
        return "child"
    if wanted.time is not None:
        return "as_of"
    own_example, other_example = _example(dataset.profile, own), _example(table.profile, other)
    fault = (
        f"is unique on neither side ({dataset.id}: {own_example}; {table.dataset.id}: {other_example}); rows would "
        "multiply. Join by a key, or give `time` for the latest row at each row's time"
    )
    raise invalid([FieldError(f"{path}.on", fault)])


def is_unique(column: ColumnProfile, rows: int) -> bool:
    """Whether no value of the column comes twice; the engine checks it again where it is used."""
    return column.distinct_count >= round(rows * (1 - column.null_ratio)) > 0


def joining(profile: Profile) -> tuple[ColumnProfile, ...]:
    """Return the columns that other datasets may share: keys, not measures, flags and times."""
    return tuple(column for column in profile.columns if column.logical_type in ENTITY)[:MAX_JOINING]


def suggested(dataset: Dataset, others: Iterable[OtherColumn]) -> tuple[SuggestedJoin, ...]:
    """Suggest datasets that could be `related` to this one, by columns of the same name that are a key of either."""
    own = {column.name.casefold(): column for column in joining(dataset.profile)}
    found: list[SuggestedJoin] = []
    for other in others:
        mine = own.get(other.column.name.casefold())
        if mine is None or other.column.logical_type not in ENTITY or not comparable(other.column, mine):
            continue
        if is_unique(other.column, other.row_count):
            found.append(SuggestedJoin(other.dataset_id, other.column.name, mine.name, "parent"))
        elif is_unique(mine, dataset.profile.row_count):
            found.append(SuggestedJoin(other.dataset_id, other.column.name, mine.name, "child"))
    return tuple(found[:MAX_SUGGESTED])


def _example(profile: Profile, column: ColumnProfile) -> str:
    repeated = next((top for top in column.top_values if top.count > 1), None)
    if repeated is None or column.personal:
        return f"{column.distinct_count} values in {profile.row_count} rows"
    return f"{repeated.value!r} is in {repeated.count} rows"
