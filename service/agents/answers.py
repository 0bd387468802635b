"""What the planning agent's tools answer: the data that is fenced, before it becomes text."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from service.agents.prompts import Column
from service.features.model import FeatureType, Grain, LogicalType, Threshold
from service.features.ports import RehearsedFeature


class Detail(Column, frozen=True, omit_defaults=True):
    """A column with all that is known of it."""

    physical_type: str = ""
    quantiles: dict[str, float] | None = None
    not_finite: float = 0.0
    """Share of NaN and infinite values."""


class Unknown(Struct, frozen=True):
    """A name that no column has, and those that come close to it."""

    name: str
    close: tuple[str, ...]


class Described(Struct, frozen=True, omit_defaults=True):
    """Answer of `describe_columns`."""

    columns: tuple[Detail, ...]
    unknown: tuple[Unknown, ...] = ()
    left_out: int = 0
    """Columns whose description would have made the answer too long: ask for them alone."""


class Found(Struct, frozen=True):
    """One column that `find_columns` found."""

    name: str
    type: LogicalType
    personal: bool


class FoundColumns(Struct, frozen=True):
    """Answer of `find_columns`."""

    columns: tuple[Found, ...]
    further: int
    """Matches that are not listed."""


class DescribedOperation(Struct, frozen=True):
    """Answer of `describe_operation`."""

    kind: str
    grain: Grain
    summary: str
    columns: dict[str, tuple[LogicalType, ...]]
    """Field that names a column → logical types that the column may have."""
    parameters: dict[str, Any]
    """JSON schemas of the other fields."""
    gives: FeatureType | None
    """None: the column's own type."""


class TriedFeature(RehearsedFeature, frozen=True):
    """A feature's statistics on the sample, and the thresholds whose bars it does not clear there."""

    rejected_at: tuple[Threshold, ...] = ()


class Tried(Struct, frozen=True, omit_defaults=True):
    """Answer of `try_plan`."""

    features: tuple[TriedFeature, ...]
    untold: tuple[str, ...] = ()
    """Features that read personal columns: nothing is told of their values."""
    left_out: int = 0
    """Features whose statistics would have made the answer too long."""


class Refused(Struct, frozen=True):
    """Why a tool did not do what it was asked."""

    problem: str
    faults: tuple[str, ...] = ()
