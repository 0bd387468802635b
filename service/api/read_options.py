"""Wire structs of how an upload is read, as a request says it and as an answer shows it."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from service.features.model import ColumnRole, LogicalType, TimeUnit

ColumnName = Annotated[str, Meta(min_length=1, max_length=256)]


class ColumnOverrideBody(Struct, frozen=True, forbid_unknown_fields=True):
    """How a column is read; null leaves it to be found out again, and a member that is left out stays as it was."""

    type: (
        Annotated[LogicalType, Meta(description="Its logical type: every value must convert.", examples=["numeric"])]
        | UnsetType
        | None
    ) = UNSET
    unit: (
        Annotated[
            TimeUnit, Meta(description="What numbers or texts of time count or spell.", examples=["milliseconds"])
        ]
        | UnsetType
        | None
    ) = UNSET
    zone: (
        Annotated[
            str,
            Meta(min_length=1, max_length=64, description="IANA time zone of local times.", examples=["Europe/Berlin"]),
        ]
        | UnsetType
        | None
    ) = UNSET
    null_words: (
        Annotated[
            tuple[Annotated[str, Meta(max_length=100)], ...],
            Meta(max_length=100, description="Texts that mean a missing value, instead of the usual ones."),
        ]
        | UnsetType
        | None
    ) = UNSET
    role: Annotated[ColumnRole, Meta(description="What the column is for.")] | UnsetType | None = UNSET


class ReadOptionsBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of `PATCH /datasets/{dataset_id}`, and the part `options` of an upload's form: a merge patch (RFC 7396)."""

    columns: (
        Annotated[
            dict[ColumnName, ColumnOverrideBody | None],
            Meta(
                max_length=10000,
                description="By the column's name; null drops what was said of the column.",
                examples=[{"price": {"type": "numeric", "null_words": ["n/a"]}, "seen": {"zone": "Europe/Berlin"}}],
            ),
        ]
        | UnsetType
        | None
    ) = UNSET
    zone: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=64,
                description="IANA time zone of local times in columns that name none; without it they are UTC.",
                examples=["Europe/Berlin"],
            ),
        ]
        | UnsetType
        | None
    ) = UNSET

    def patch(self) -> dict[str, Any]:
        """Return the members that were given, nulls too."""
        return msgspec.to_builtins(self)


class ColumnOverrideView(Struct, frozen=True):
    """How a column is to be read; what is null is found out from its values."""

    type: LogicalType | None
    unit: TimeUnit | None
    zone: Annotated[str | None, Meta(description="IANA time zone of local times.")]
    null_words: tuple[str, ...] | None
    role: ColumnRole | None


class OverridesView(Struct, frozen=True):
    """How an upload is to be read, where its owner said so."""

    columns: dict[str, ColumnOverrideView]
    zone: Annotated[str | None, Meta(description="IANA time zone of local times in columns that name none.")]
