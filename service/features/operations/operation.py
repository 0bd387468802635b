"""The base of operations: what each class must declare, and what is read from the declarations.

One class is one operation. Its fields are the parameters on the wire, its docstring the one-sentence summary, its class
attributes the facts that planners, validation, quality rules and documentation read, and `compile` its computation.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast, get_args, get_origin

import msgspec
from msgspec import Struct
from msgspec.structs import fields

from service.features.operations.expression import Entities, Expression, Rows
from service.features.operations.parameters import Accepted, Accepts, FeatureType, FreeText, IsTarget, Predicate

Grain = Literal["row", "entity"]
Sees = Literal["row", "dataset", "history", "entity"]
"""Which rows a value depends on: its own; all of the dataset; its own and earlier ones of the entity; all of the
entity, or of the dataset."""
Fits = Literal["nothing", "statistics", "ranks", "groups", "categories", "folds"]
"""What must be kept of the rows at hand to compute the same for other rows later: figures of all rows (of each group
where the operation names one); the values in order with how many rows hold each; a table of figures by group; a list of
categories; a table of figures by group for each fold. The dataset's latest time is not fitted: other rows have their
own."""
Cost = Literal["scan", "sort", "sort for a median"]
"""Whether the rows are read once, or sorted or grouped anew for this feature (windows, ranks, distinct values)."""


class OperationIncomplete(TypeError):
    """A class does not declare all that an operation needs; the message names the class and what is missing."""


class Operation(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    """Base of every operation; a subclass with a `tag` is one, and declares every attribute that follows."""

    if TYPE_CHECKING:  # at run time, msgspec would evaluate these annotations anew for every subclass
        grain: ClassVar[Grain]
        """Whether a value belongs to a row of the dataset or to an entity."""
        gives: ClassVar[FeatureType | None]
        """Type of the feature; None for the type of the column in the field `column`."""
        sees: ClassVar[Sees]
        """Which rows a value depends on."""
        fits: ClassVar[Fits]
        """What it learns of the dataset that other rows are later computed with."""
        cost: ClassVar[Cost]
        """What computing it takes."""
        publishes_values: ClassVar[bool]
        """Whether the feature holds the column's own values, which is refused for a personal column."""
        follows_calendar: ClassVar[bool]
        """Whether it differs between earlier and later rows by its meaning, so that drift says nothing."""
        nulls: ClassVar[str]
        """When the value is null, in words."""
        formula: ClassVar[str]
        """The computation, in words or symbols."""
        source: ClassVar[str]
        """Where the formula comes from."""
        example: ClassVar[str]
        """An instance as JSON without `kind`, on the columns of `document.EXAMPLE_COLUMNS`."""

    def faults(self) -> Iterator[tuple[str, str]]:
        """What is wrong with the parameters beside one another: field and message. None unless overridden."""
        yield from ()

    def sorts(self) -> bool:
        """Whether computing it sorts the rows or groups them anew."""
        by_order = getattr(self, "function", None) in {"median", "count_distinct"}
        return self.cost == "sort" or (self.cost == "sort for a median" and by_order)

    def reads_plan_time(self) -> bool:
        """Whether it reads the plan's time column without naming it: it counts the dataset's last days."""
        return getattr(self, "last_days", None) is not None


class RowOperation(Operation, frozen=True):
    """Base of the row grain: one value for each row of the dataset."""

    grain = "row"
    masks_rare: ClassVar[bool] = False
    """Whether a feature says `other` for what few rows share; a computed column, which is not published, does not."""

    def compile(self, rows: Rows) -> Expression:
        """Build the expression of a row's value."""
        raise NotImplementedError

    def intermediate(self, rows: Rows) -> Expression:
        """Build the expression of a computed column's value."""
        return self.compile(rows)


def masks_rare(operation: Operation) -> bool:
    """Return whether a feature of it says `other` for what few rows share."""
    return isinstance(operation, RowOperation) and operation.masks_rare


class EntityOperation(Operation, frozen=True):
    """Base of the entity grain: one value for each entity."""

    grain = "entity"
    sees = "entity"
    fits = "nothing"
    follows_calendar = False

    def compile(self, entities: Entities) -> Expression:
        """Build the expression of an entity's value."""
        raise NotImplementedError


class OperationSpec(Struct, frozen=True):
    """All that one class declares, gathered and checked."""

    kind: str
    """Its tag on the wire."""
    type: type[Operation]
    grain: Grain
    columns: dict[str, Accepted]
    """Field name → logical types that the column named there, or each of the columns, may have."""
    targets: tuple[str, ...]
    """Fields that may name the column to be predicted."""
    dtype: FeatureType | None
    """None when the feature has the column's own type."""
    summary: str
    """One sentence, from the class's docstring."""
    sees: Sees
    fits: Fits
    cost: Cost
    publishes_values: bool
    follows_calendar: bool
    nulls: str
    formula: str
    source: str
    example: str


DECLARED = (
    "grain", "gives", "sees", "fits", "cost", "publishes_values", "follows_calendar", "nulls", "formula", "source",
    "example",
)  # fmt: skip


@cache
def declaration(operation: type[Operation]) -> OperationSpec:
    """Gather what the class declares. Raises OperationIncomplete, naming the class and what is missing."""
    _require_declarations(operation)
    spec = OperationSpec(
        kind=str(operation.__struct_config__.tag),
        type=operation,
        grain=operation.grain,
        columns=_columns(operation),
        targets=_targets(operation),
        dtype=operation.gives,
        summary=" ".join((operation.__doc__ or "").split()),
        sees=operation.sees,
        fits=operation.fits,
        cost=operation.cost,
        publishes_values=operation.publishes_values,
        follows_calendar=operation.follows_calendar,
        nulls=operation.nulls,
        formula=operation.formula,
        source=operation.source,
        example=operation.example,
    )
    if spec.dtype is None and "column" not in spec.columns:
        raise OperationIncomplete(f"{_named(operation)} gives its column's type and has no field `column`")
    return spec


def is_tagged(operation: type[Operation]) -> bool:
    """Whether the class names itself on the wire; without a tag of its own, msgspec takes the class's name."""
    return operation.__struct_config__.tag != operation.__name__


def is_compiled(operation: type[Operation]) -> bool:
    """Whether the class says how it is computed."""
    bases = (RowOperation.compile, EntityOperation.compile)
    return getattr(operation, "compile", bases[0]) not in bases


def _require_declarations(operation: type[Operation]) -> None:
    named = _named(operation)
    if not is_tagged(operation):
        raise OperationIncomplete(f'{named} names no kind: declare `tag="…"`')
    missing = [name for name in DECLARED if not hasattr(operation, name)]
    if missing:
        raise OperationIncomplete(f"{named} does not declare {', '.join(f'`{name}`' for name in missing)}")
    if not (operation.__dict__.get("__doc__") or "").strip().endswith("."):
        raise OperationIncomplete(f"{named} has no docstring of one sentence")
    if not is_compiled(operation):
        raise OperationIncomplete(f"{named} has no method `compile`")


def _columns(operation: type[Operation]) -> dict[str, Accepted]:
    """Fields that hold a column's name, with the accepted types."""
    found: dict[str, Accepted] = {}
    for field in fields(operation):
        is_text, markers = _markers(field.type)
        accepted = [marker.types for marker in markers if isinstance(marker, Accepts)]
        if accepted:
            found[field.name] = accepted[0]
        elif is_text and not any(isinstance(marker, FreeText) for marker in markers):
            raise OperationIncomplete(
                f"{_named(operation)} does not say which columns the field `{field.name}` accepts: "
                "take a type such as NumberColumn, or FreeText for what names no column"
            )
    return found


def _targets(operation: type[Operation]) -> tuple[str, ...]:
    """Fields that may name the column to be predicted."""
    marked = ((field.name, _markers(field.type)[1]) for field in fields(operation))
    return tuple(name for name, markers in marked if any(isinstance(marker, IsTarget) for marker in markers))


def _markers(annotation: Any) -> tuple[bool, tuple[object, ...]]:
    """Whether the annotation is of text (or text or None), and what `Annotated` says beside it."""
    if get_origin(annotation) is Annotated:
        content, *markers = get_args(annotation)
        is_text, inner = _markers(content)
        return is_text, (*inner, *markers)
    if get_origin(annotation) is tuple:
        return _markers(get_args(annotation)[0])
    options = [option for option in get_args(annotation) if option is not type(None)]
    if len(options) == 1 and type(None) in get_args(annotation):
        return _markers(options[0])
    return annotation is str, ()


def _named(operation: type[Operation]) -> str:
    return f"{operation.__module__}.{operation.__qualname__}"


def spec_of(operation: Operation) -> OperationSpec:
    """What the operation's class declares."""
    return declaration(type(operation))


def named_columns(operation: Operation) -> dict[str, str]:
    """The columns the operation names in fields of its own: place (`column`, `columns[1]`) → column name.

    Optional ones that are left open are left out.
    """
    named: dict[str, str] = {}
    for field in spec_of(operation).columns:
        content: str | tuple[str, ...] | None = getattr(operation, field)
        if isinstance(content, tuple):
            named |= {f"{field}[{index}]": column for index, column in enumerate(content)}
        elif content is not None:
            named[field] = content
    return named


def predicates(operation: Operation) -> dict[str, Predicate]:
    """The operation's predicates by their place in it, such as `where[0]` or `numerator[1]`."""
    found: dict[str, Predicate] = {}
    for name in operation.__struct_fields__:
        content: Any = getattr(operation, name)
        if isinstance(content, tuple):
            conditions = enumerate(cast("tuple[object, ...]", content))
            found |= {f"{name}[{index}]": one for index, one in conditions if isinstance(one, Predicate)}
    return found


def source_columns(operation: Operation) -> tuple[str, ...]:
    """The columns the operation reads, predicates' too, each once, in the order it names them."""
    conditions = (predicate.column for predicate in predicates(operation).values())
    return tuple(dict.fromkeys((*named_columns(operation).values(), *conditions)))


def example_of(spec: OperationSpec) -> Operation:
    """The example as an instance. Raises msgspec.ValidationError for one that is not of the operation."""
    return msgspec.json.decode(spec.example, type=spec.type)
