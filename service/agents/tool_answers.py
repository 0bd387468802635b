"""Define the answers of the planning agent's tools, before they are fenced and become text."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from service.agents.prompts import Column
from service.features.model import FeatureType, Grain, LogicalType, Threshold
from service.features.ports import RehearsedFeature


class ColumnDetail(Column, frozen=True, omit_defaults=True):
    """Describe a column with every known statistic."""

    physical_type: str = ""
    quantiles: dict[str, float] | None = None
    not_finite: float = 0.0
    """Share of NaN and infinite values."""


class UnknownColumn(Struct, frozen=True):
    """A name that no column has, and similar names."""

    name: str
    close: tuple[str, ...]


class ColumnsAnswer(Struct, frozen=True, omit_defaults=True):
    """Answer of `describe_columns`."""

    columns: tuple[ColumnDetail, ...]
    unknown: tuple[UnknownColumn, ...] = ()
    left_out: int = 0
    """Columns left out because the answer would be too long; the model can ask for them separately."""


class FoundColumn(Struct, frozen=True):
    """A column that `find_columns` found."""

    name: str
    type: LogicalType
    personal: bool


class FoundColumnsAnswer(Struct, frozen=True):
    """Answer of `find_columns`."""

    columns: tuple[FoundColumn, ...]
    further: int
    """Matches that are not listed."""


class OperationAnswer(Struct, frozen=True):
    """Answer of `describe_operation`."""

    kind: str
    grain: Grain
    summary: str
    columns: dict[str, tuple[LogicalType, ...]]
    """Field that names a column → logical types that the column may have."""
    parameters: dict[str, Any]
    """JSON schemas of the other fields."""
    gives: FeatureType | None
    """None means the column's own type."""


class TriedFeature(RehearsedFeature, frozen=True):
    """A feature's statistics on the sample, and the thresholds whose bars it fails there."""

    rejected_at: tuple[Threshold, ...] = ()


class TrialAnswer(Struct, frozen=True, omit_defaults=True):
    """Answer of `try_plan`."""

    features: tuple[TriedFeature, ...]
    untold: tuple[str, ...] = ()
    """Features that read personal columns; their statistics are not shown."""
    left_out: int = 0
    """Features left out because the answer would be too long."""


class ToolRefusal(Struct, frozen=True):
    """Why a tool refused a call."""

    problem: str
    faults: tuple[str, ...] = ()
