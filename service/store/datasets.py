"""Store datasets and their versions. Every statement filters by the owner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import structs
from sqlalchemy import CursorResult, Table, delete, func, insert, select, type_coerce, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import JSONB

from service.features.errors import DatasetChanged, DatasetExists, DatasetNotFound
from service.features.joins import OtherColumn
from service.features.model import ColumnProfile, Dataset
from service.features.stores import Page
from service.store.pages import Repository, page, paged, require_storable
from service.store.payload import Payload
from service.store.tables import dataset_versions, datasets

SEARCHED = 50
"""Datasets that are searched for columns of the same name."""
MAX_FOUND = 200
_FIELDS = Dataset.__struct_fields__
_CHANGED = [name for name in _FIELDS if name not in {"id", "owner", "created_at"}]
"""What a new version brings."""


class SqlDatasets(Repository):
    """Implement `stores.Datasets`: the current version of each in `datasets`, older ones in `dataset_versions`."""

    async def add(self, dataset: Dataset) -> None:
        """Store a new dataset. Raises DatasetExists when the owner has that id; the transaction stays usable."""
        row = structs.asdict(dataset)
        statement = postgresql.insert(datasets).values(row).on_conflict_do_nothing().returning(datasets.c.id)
        if (await self.execute(statement)).first() is None:
            raise DatasetExists(f"You already have a dataset {dataset.id!r}.")

    async def get(self, owner: str, dataset_id: str, version: int | None = None) -> Dataset:
        """Return the current version, or an older one that is still kept. Raises DatasetNotFound."""
        require_storable(DatasetNotFound, owner, dataset_id)
        found = await self._find(datasets, owner, dataset_id, version)
        if found is None and version is not None:  # it may be replaced between the two statements, never the other way
            found = await self._find(dataset_versions, owner, dataset_id, version)
        return _required(found)

    async def list(self, owner: str, *, limit: int, cursor: str | None = None) -> Page[Dataset]:
        """List the owner's datasets, newest first. Raises InvalidRequest for a foreign cursor."""
        statement = page(select(datasets).where(datasets.c.owner == owner), datasets, limit, cursor)
        found = await self.execute(statement)
        return paged(datasets, [Dataset(**row) for row in found.mappings()], limit)

    async def others_columns(self, owner: str, dataset_id: str, names: Sequence[str]) -> tuple[OtherColumn, ...]:
        """Return the columns of these names, letter case aside, of the owner's newest other datasets."""
        newest = select(datasets.c.id, datasets.c.created_at, type_coerce(datasets.c.profile, JSONB).label("profile"))
        newest = newest.where(datasets.c.owner == owner, datasets.c.id != dataset_id)
        recent = newest.order_by(datasets.c.created_at.desc()).limit(SEARCHED).subquery()
        each = func.jsonb_array_elements(recent.c.profile["columns"]).table_valued("value", joins_implicitly=True)
        column = type_coerce(each.c.value, JSONB)
        statement = (
            select(
                recent.c.id,
                recent.c.profile["row_count"].as_integer().label("row_count"),
                type_coerce(column, Payload(ColumnProfile)).label("column"),
            )
            .where(func.lower(column["name"].astext).in_([name.casefold() for name in names if "\0" not in name]))
            .order_by(recent.c.created_at.desc(), recent.c.id)
            .limit(MAX_FOUND)
        )
        found = await self.execute(statement)
        return tuple(OtherColumn(row["id"], row["row_count"], row["column"]) for row in found.mappings())

    async def replace(self, dataset: Dataset, *, expected: int | None = None) -> tuple[Dataset, Dataset]:
        """Make it the next version, keep the present one, and return both. Raises DatasetNotFound, DatasetChanged.

        The dataset's row stays locked until the transaction ends, so of two that come together the second waits and
        replaces what the first has stored.
        """
        present = await self._lock(dataset.owner, dataset.id)
        if expected is not None and present.version != expected:
            raise DatasetChanged(f"Another request has made version {present.version} of the dataset meanwhile.")
        new = structs.replace(dataset, version=present.version + 1, created_at=present.created_at)
        which = _is(datasets, dataset.owner, dataset.id)
        await self.execute(update(datasets).where(*which).values({name: getattr(new, name) for name in _CHANGED}))
        older = _older(present, new)
        await self.execute(insert(dataset_versions).values(structs.asdict(older) | {"replaced_at": func.now()}))
        return new, older

    async def delete(self, owner: str, dataset_id: str) -> tuple[Dataset, ...]:
        """Delete the dataset with all of its versions and return them, the current one first. Raises DatasetNotFound.

        Its row is locked first, as `replace` does, and only then what the triggers count.
        """
        require_storable(DatasetNotFound, owner, dataset_id)
        present = await self._lock(owner, dataset_id)
        columns = [dataset_versions.c[name] for name in _FIELDS]
        older = await self.execute(select(*columns).where(*_is(dataset_versions, owner, dataset_id)))
        await self.execute(delete(datasets).where(*_is(datasets, owner, dataset_id)))
        return present, *(Dataset(**row) for row in older.mappings())

    async def _find(self, table: Table, owner: str, dataset_id: str, version: int | None) -> Dataset | None:
        statement = select(*(table.c[name] for name in _FIELDS)).where(*_is(table, owner, dataset_id))
        if version is not None:
            statement = statement.where(table.c.version == version)
        return _dataset(await self.execute(statement))

    async def _lock(self, owner: str, dataset_id: str) -> Dataset:
        statement = select(datasets).where(*_is(datasets, owner, dataset_id)).with_for_update()
        return _required(_dataset(await self.execute(statement)))


def _older(present: Dataset, new: Dataset) -> Dataset:
    """Return the version that is replaced; an original that the new one has too is the new one's alone."""
    if present.original_key != new.original_key:
        return present
    return structs.replace(present, stored_bytes=present.parquet_bytes, original_key=None)


def _is(table: Table, owner: str, dataset_id: str) -> tuple[Any, Any]:
    return table.c.owner == owner, table.c.id == dataset_id


def _dataset(found: CursorResult[Any]) -> Dataset | None:
    row = found.mappings().one_or_none()
    return None if row is None else Dataset(**row)


def _required(dataset: Dataset | None) -> Dataset:
    if dataset is None:
        raise DatasetNotFound("You have no such dataset.")
    return dataset
