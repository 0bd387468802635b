"""The reference of operations as Markdown, written from what the classes declare; `make operations` renews it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import msgspec

from service.features.operations.operation import OperationSpec
from service.features.operations.parameters import (
    ANY,
    CATEGORY,
    ENTITY,
    NUMBER,
    PUBLISHED,
    TEXT,
    TIME,
    Accepted,
    FeatureType,
)
from service.features.operations.registry import FAMILIES, REGISTRY
from tools.operations_examples import EXAMPLE_COLUMNS, example_tables

PAGE = Path(__file__).parents[1] / "docs" / "operations.md"

ACCEPTED_AS: dict[Accepted, str] = {
    NUMBER: "number",
    TIME: "time",
    TEXT: "text",
    CATEGORY: "category",
    ENTITY: "entity",
    PUBLISHED: "value",
    ANY: "any",
}
"""A word for each set of logical types that columns of operations may have."""

SEEN = {
    "row": "its own row",
    "dataset": "all rows of the dataset",
    "history": "its own and the entity's earlier rows",
    "entity": "all rows of the entity, and the dataset's latest time",
}
FITTED = {
    "nothing": "nothing",
    "statistics": "figures of all rows, or of each group where one is named",
    "ranks": "the values in order, with how many rows hold each",
    "groups": "a table of figures by group",
    "categories": "a list of categories",
    "folds": "for each fold, a table of figures by group of the other folds",
}
"""What is kept of a dataset so that other rows can be computed as its own were."""
BOUNDS = {
    "minimum": "≥", "maximum": "≤", "exclusiveMinimum": ">", "exclusiveMaximum": "<", "minItems": "at least",
    "maxItems": "at most", "minLength": "length ≥", "maxLength": "length ≤",
}  # fmt: skip

HEAD = """\
# Operations

Everything that a feature can be. A plan names an operation by its `kind` and gives it columns and parameters; nothing
else is ever computed. This page is written from the classes in `service/features/operations/`: `make operations`
renews it, and a test holds it to them.

What is no finite number is published as null. Days are fractional, of 24 hours; times are UTC; "as of" a dataset is
the latest value of its time column. A predicate is
`{"column": …, "comparison": …, "values": […]}`; several are a conjunction.
"""


def document(registry: Mapping[str, OperationSpec] = REGISTRY, families: Iterable[ModuleType] = FAMILIES) -> str:
    """The whole page."""
    sections = (section for family in families for section in _family(family, registry))
    return "\n".join((HEAD, *_words(), *_matrix(registry.values()), *sections))


def signature(spec: OperationSpec) -> str:
    """The operation in one line: its fields with the columns they take, and what it gives."""
    fields = ", ".join(_field(spec, name) for name in spec.type.__struct_fields__)
    return f"{spec.kind}({fields}) → {_gives(spec.dtype)}"


def entry(spec: OperationSpec) -> str:
    """The operation's section of the page."""
    facts = {
        "Null": spec.nulls,
        "Formula": spec.formula,
        "Source": spec.source,
        "Reads": SEEN[spec.sees],
        "Fits": FITTED[spec.fits],
        "Cost": spec.cost,
    }
    parameters = [f"  - `{name}`: {shape}" for name, shape in _parameters(spec)]
    lines = [f"### {spec.kind}", "", spec.summary, "", f"`{signature(spec)}`", ""]
    lines += [f"- **{name}**: {words}" for name, words in facts.items()]
    lines += ["- **Parameters**:", *parameters] if parameters else []
    lines += [f"- **Example**: `{_example(spec)}`", "", *example_tables(spec), ""]
    return "\n".join(lines)


def _family(family: ModuleType, registry: Mapping[str, OperationSpec]) -> Iterator[str]:
    title, _, rest = (family.__doc__ or "").strip().partition("\n")
    yield f"## {title.rstrip('.')}\n"
    if rest.strip():
        yield f"{rest.strip()}\n"
    yield from (entry(spec) for spec in registry.values() if spec.type.__module__ == family.__name__)


def _words() -> Iterator[str]:
    yield "## Columns\n\n| Word | Logical types of the column |\n|---|---|"
    yield from (f"| {word} | {', '.join(sorted(accepted))} |" for accepted, word in ACCEPTED_AS.items())
    yield "\nA category that is stored as numbers (a grade 1 … 5) serves as a number, too.\n"
    yield "The examples read a table of orders; numbers are shown to six digits:\n"
    yield "| Column | Logical type |\n|---|---|"
    yield from (f"| `{name}` | {logical} |" for name, (logical, _) in EXAMPLE_COLUMNS.items())
    yield ""


def _matrix(specs: Iterable[OperationSpec]) -> Iterator[str]:
    yield "## Overview\n\n| Operation | Grain | Gives | Reads | Fits | Cost | Publishes values | Follows the calendar |"
    yield "|---|---|---|---|---|---|---|---|"
    for spec in specs:
        marks = [("yes" if fact else "") for fact in (spec.publishes_values, spec.follows_calendar)]
        facts = [spec.grain, _gives(spec.dtype), spec.sees, spec.fits, spec.cost, *marks]
        yield f"| [{spec.kind}](#{spec.kind}) | {' | '.join(facts)} |"
    yield ""


def _gives(dtype: FeatureType | None) -> str:
    return dtype or "the column's type"


def _field(spec: OperationSpec, name: str) -> str:
    optional = spec.type.__struct_fields__[len(spec.type.__struct_fields__) - len(spec.type.__struct_defaults__) :]
    shown = f"{name}?" if name in optional else name
    accepted = spec.columns.get(name)
    return shown if accepted is None else f"{shown}: {ACCEPTED_AS.get(accepted) or '|'.join(sorted(accepted))}"


def _parameters(spec: OperationSpec) -> Iterator[tuple[str, str]]:
    properties = _schema(spec)
    for name in spec.type.__struct_fields__:
        default = properties[name].get("default")
        unset = "" if default is None else f"; default {msgspec.json.encode(default).decode()}"
        accepted = spec.columns.get(name)
        yield name, (_shape(properties[name]) if accepted is None else _column(accepted, properties[name])) + unset


def _column(accepted: Accepted, schema: dict[str, Any]) -> str:
    """What a field that names a column, or several, takes."""
    word = ACCEPTED_AS.get(accepted) or "|".join(sorted(accepted))
    if schema.get("type") == "array":
        bounds = ", ".join(f"{BOUNDS[bound]} {schema[bound]}" for bound in ("minItems", "maxItems") if bound in schema)
        return f"columns ({word}), {bounds}"
    return f"column ({word})" + (" or none" if "anyOf" in schema else "")


def _schema(spec: OperationSpec) -> dict[str, Any]:
    _, components = msgspec.json.schema_components([spec.type], ref_template="{name}")
    return cast("dict[str, Any]", components[spec.type.__name__]["properties"])


def _shape(schema: dict[str, Any]) -> str:
    """What a field takes, in words."""
    if "$ref" in schema:
        return "predicate"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "anyOf" in schema:
        options = [option for option in schema["anyOf"] if option.get("type") != "null"]
        return ", ".join(_shape(option) for option in options) + " or none"
    kind = _items(schema["items"]) if schema["type"] == "array" else schema.get("format", schema["type"])
    bounds = [f"{sign} {schema[bound]}" for bound, sign in BOUNDS.items() if bound in schema]
    return ("; " if schema["type"] == "array" else ", ").join([kind, *bounds])


def _items(schema: dict[str, Any]) -> str:
    """What an array holds, in words."""
    shape = _shape(schema)
    return "predicates" if shape == "predicate" else f"list of {shape}"


def _example(spec: OperationSpec) -> str:
    fields = cast("dict[str, Any]", msgspec.json.decode(spec.example))
    return msgspec.json.format(msgspec.json.encode({"kind": spec.kind, **fields}), indent=0).decode()


if __name__ == "__main__":  # a page that cannot be written leaves the old one as it is
    page = document()
    if "--write" in sys.argv:
        PAGE.write_text(page, encoding="utf-8")
    else:
        sys.stdout.write(page)
