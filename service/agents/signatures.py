"""Write an operation in one line, as planning models read it: a schema for each would take five times as much."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from service.features.operations import ANY, CATEGORY, ENTITY, NUMBER, PUBLISHED, TEXT, TIME, Accepted, OperationSpec

COLUMN_WORDS: dict[Accepted, str] = {
    NUMBER: "number",
    TIME: "time",
    TEXT: "text",
    CATEGORY: "category",
    ENTITY: "entity",
    PUBLISHED: "value",
    ANY: "any",
}
"""Words for the types of column that a field takes."""
SHORT_LIST = 16
"""Literals of a longer list are looked up."""


def signature(spec: OperationSpec) -> str:
    """Return the operation's kind with its parameters; those in brackets may be left out."""
    schema = cast("dict[str, Any]", msgspec.json.schema_components([spec.type])[1][spec.type.__name__])
    required = set(schema.get("required", ()))
    parts = [
        _parameter(spec, name, content, optional=name not in required)
        for name, content in schema["properties"].items()
        if name != "kind"
    ]
    return f"{spec.kind}({', '.join(parts)})"


def _parameter(spec: OperationSpec, name: str, content: Mapping[str, Any], *, optional: bool) -> str:
    word = COLUMN_WORDS.get(spec.columns[name], "any") if name in spec.columns else _shape(content)
    several = "[]" if name in spec.columns and _is_list(content) else ""
    text = name if word in {name, ""} else f"{name}: {word}"
    return f"[{text}{several}]" if optional else text + several


def _is_list(content: Mapping[str, Any]) -> bool:
    return content.get("type") == "array"


def _shape(content: Mapping[str, Any]) -> str:
    """Return the values that a parameter takes, in a word or as alternatives."""
    for option in content.get("anyOf", ()):
        if option.get("type") != "null":
            return _shape(option)
    if literals := content.get("enum"):
        return "|".join(map(str, literals)) if len(literals) <= SHORT_LIST else "one of several words"
    if _is_list(content):
        items = cast("Mapping[str, Any]", content.get("items", {}))
        return "" if "$ref" in items else f"{_shape(items) or 'value'}[]"
    return {"integer": "integer", "number": "float", "string": "text", "boolean": "boolean"}.get(
        str(content.get("type", "")), ""
    )
