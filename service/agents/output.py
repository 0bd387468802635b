"""Define the typed answers of a model (a plan, or why none is possible), their JSON schemas and their decoding.

pydantic-ai uses pydantic, the domain uses msgspec. Markers in `Annotated` connect them: the tool's JSON schema is
msgspec's own, and msgspec decodes an answer feature by feature, so that every fault is found at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypedDict, TypeVar, cast

import msgspec
from msgspec import Meta, Struct
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_ai import ToolOutput
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, ValidationError, core_schema

from service.features.faults import Fault
from service.features.model import FeaturePlan, PlannedFeature
from service.features.operations import REGISTRY

T = TypeVar("T")
Location = tuple[str | int, ...]
LocatedFault = tuple[Location, str]
"""A location in the answer, and what is wrong there."""

MAX_FEATURES = 200
"""Features of a plan (`FeaturePlan.features`)."""
_PATH = re.compile(r"^(?P<message>.*) - at `\$(?P<path>[^`]*)`$", re.DOTALL)
_STEP = re.compile(r"\.(?P<key>\w+)|\[(?P<index>\d*\.*)\]")
NAMED = "One of the listed operations: its `kind` and its parameters by their names."
_OMITTED = frozenset({"title", "discriminator", "$defs"})


class Impossible(Struct, frozen=True, forbid_unknown_fields=True):
    """The dataset has nothing that the request could be computed from."""

    reason: Annotated[str, Meta(min_length=3, max_length=500)]
    """One plain sentence: what was looked for and not found."""


def json_schema(type_: type[Struct]) -> dict[str, Any]:
    """Return the struct's JSON schema as one object without references.

    It is shorter than with `$defs`, and several OpenAI-compatible servers cannot resolve references.
    """
    document = msgspec.json.schema(type_)
    return cast("dict[str, Any]", _inline(document, document["$defs"]))


def plan_schema() -> dict[str, Any]:
    """Return the plan's JSON schema, in which operations are named only: the instructions list their parameters."""
    schema = json_schema(FeaturePlan)
    for member, description in (("features", NAMED), ("columns", 'One of grain "row", likewise.')):
        made = schema["properties"][member]["items"]["properties"]
        kind = {"enum": list(REGISTRY)} if member == "features" else {"type": "string"}
        made["operation"] = {
            "type": "object",
            "description": description,
            "properties": {"kind": kind},
            "required": ["kind"],
        }
    groups = schema["properties"]["groups"]["items"]["properties"]
    groups["features"] = {"type": "array", "description": "Features of each group, as in `features`.", "minItems": 1}
    return schema


def _inline(node: object, definitions: Mapping[str, object]) -> object:
    if isinstance(node, list):
        return [_inline(item, definitions) for item in cast("list[object]", node)]
    if not isinstance(node, dict):
        return node
    fields = cast("dict[str, object]", node)
    reference = fields.get("$ref")
    if isinstance(reference, str):
        return _inline(definitions[reference.rsplit("/", 1)[-1]], definitions)
    return {
        key: _one_line(value) if key == "description" else _inline(value, definitions)
        for key, value in fields.items()
        if key not in _OMITTED
    }


def _one_line(value: object) -> object:
    """Remove a docstring's indentation. A field that is named "description" has a schema, not a text."""
    return " ".join(value.split()) if isinstance(value, str) else value


def decode_plan(answer: object) -> tuple[FeaturePlan | None, tuple[LocatedFault, ...]]:
    """Decode a plan from JSON-like data, or return every fault with its location."""
    if not isinstance(answer, Mapping):
        return None, (((), "Expected an object with `grain` and `features`"),)
    fields = dict(cast("Mapping[str, object]", answer))
    if "features" not in fields:
        return _convert(fields, FeaturePlan)
    features, faults = _decode_features(fields["features"])
    # A placeholder feature lets the plan's own fields be checked when the features are at fault.
    plan, shell_faults = _convert({**fields, "features": features or (_STAND_IN,)}, FeaturePlan)
    faults = (*shell_faults, *faults)
    return (None, faults) if faults else (plan, ())


_STAND_IN = {"name": "stand_in", "description": "stand-in", "operation": {"kind": "is_missing", "column": "stand_in"}}


def _decode_features(value: object) -> tuple[tuple[PlannedFeature, ...], tuple[LocatedFault, ...]]:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return (), ((("features",), "Expected an array of features"),)
    items = cast("Sequence[object]", value)
    if len(items) > MAX_FEATURES:
        # Checked first: decoding an oversized list would block the event loop for as long as the model likes.
        return (), ((("features",), f"Expected at most {MAX_FEATURES} features"),)
    features: list[PlannedFeature] = []
    faults: list[LocatedFault] = []
    for index, item in enumerate(items):
        feature, found = _convert(item, PlannedFeature)
        faults.extend((("features", index, *location), message) for location, message in found)
        if feature is not None:
            features.append(feature)
    if not features and not faults:
        faults.append((("features",), "Expected at least one feature"))
    return tuple(features), tuple(faults)


def _convert(value: object, type_: type[T]) -> tuple[T | None, tuple[LocatedFault, ...]]:
    try:
        return msgspec.convert(value, type_), ()
    except msgspec.ValidationError as error:
        return None, (split_fault(str(error)),)
    except UnicodeEncodeError:
        return None, (((), "Expected text without lone surrogates"),)


def split_fault(text: str) -> LocatedFault:
    """Split msgspec's "what - at `$.path[0]`" into location and message."""
    found = _PATH.match(text)
    if found is None:
        return (), text
    return _location(found["path"]), found["message"]


def _location(path: str) -> Location:
    return tuple(
        step["key"] if step["key"] is not None else int(step["index"]) if step["index"].isdigit() else "..."
        for step in _STEP.finditer(path)
    )


class _JSONObject(TypedDict):
    """Any JSON object: the type that pydantic-ai sees, so that the tool's schema comes from the marker beside it."""


class _Decoded:
    """Mark a type in `Annotated` with the struct's JSON schema and decoder for pydantic."""

    def __init__(
        self,
        type_: type[Struct],
        schema: Callable[[], dict[str, Any]],
        decode: Callable[[object], tuple[object, tuple[LocatedFault, ...]]],
    ) -> None:
        self._type = type_
        self._schema = schema
        self._decode = decode

    def __get_pydantic_core_schema__(self, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._validate)

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return self._schema()

    def _validate(self, value: object) -> object:
        decoded, faults = self._decode(value)
        if faults:
            raise ValidationError.from_exception_data(
                self._type.__name__, [_details(location, message) for location, message in faults]
            )
        return decoded


def _details(location: Location, message: str) -> InitErrorDetails:
    # The input is left out: the model already has its answer, and an answer may quote the client.
    return InitErrorDetails(type=PydanticCustomError("invalid", "{m}", {"m": message}), loc=location, input=None)


def _decode_impossible(answer: object) -> tuple[Impossible | None, tuple[LocatedFault, ...]]:
    return _convert(answer, Impossible)


Answer = FeaturePlan | Impossible

PLAN_TOOL = "propose_plan"
IMPOSSIBLE_TOOL = "report_impossible"


def answer_tools() -> list[ToolOutput[Answer]]:
    """Return the two tools by which a model answers.

    They are not strict: some providers' strict mode has no optional fields, patterns or lengths.
    """
    tools = (
        (
            PLAN_TOOL,
            "Propose the feature plan",
            Annotated[_JSONObject, _Decoded(FeaturePlan, plan_schema, decode_plan)],
        ),
        (
            IMPOSSIBLE_TOOL,
            "Report that no column of the dataset could serve the request",
            Annotated[_JSONObject, _Decoded(Impossible, lambda: json_schema(Impossible), _decode_impossible)],
        ),
    )
    return [
        ToolOutput(cast("type[Answer]", type_), name=name, description=description, strict=False)
        for name, description, type_ in tools
    ]


def schema_faults(error: ValidationError) -> tuple[Fault, ...]:
    """Convert decoding errors to plan faults."""
    return tuple(
        Fault("schema", field_path(detail["loc"]), detail["msg"])
        for detail in error.errors(include_input=False, include_url=False, include_context=False)
    )


def field_path(location: Location) -> str:
    """Write `("features", 3, "name")` as `features[3].name`."""
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return path.removeprefix(".")
