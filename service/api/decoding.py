"""Read requests strictly: JSON bodies with every fault named, and no unknown query parameters."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from litestar import Request
from litestar.exceptions import InternalServerException
from litestar.handlers import HTTPRouteHandler
from litestar.params import QueryParameter
from msgspec import Struct
from msgspec.structs import FieldInfo, fields

from service.api.errors import MalformedRequest, MediaTypeUnsupported
from service.api.services import ApiServices
from service.features.errors import InvalidRequest
from service.features.identity import Principal
from service.features.model import FieldError

T = TypeVar("T", bound=Struct)

MAX_JSON_BYTES = 1024 * 1024
"""Maximum size of every body except uploads."""


class ApiRequest(Request[Principal, None, Any]):
    """Read the JSON body strictly into the struct of the route's `data` parameter."""

    @property
    def services(self) -> ApiServices:
        """Return the services without the framework's injection, which takes a tenth of a fast route's time."""
        services: ApiServices = self.app.state.services
        return services

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it arrives.

        Raises MediaTypeUnsupported for a compressed body, MalformedRequest when the client disconnects within it.
        """
        encoding = self.headers.get("content-encoding", "identity").lower()
        if encoding != "identity":
            raise MediaTypeUnsupported("Send the body without a Content-Encoding.")
        try:
            async for chunk in super().stream():
                yield chunk
        except InternalServerException as error:
            raise MalformedRequest("The body ended before its time.") from error

    async def body(self) -> bytes:
        """Return the body. Raises MediaTypeUnsupported if it is not declared as JSON, MalformedRequest if empty."""
        media_type, _ = self.content_type
        if media_type != "application/json" and not media_type.endswith("+json"):
            raise MediaTypeUnsupported("Send this request's body as application/json.")
        if not (body := await super().body()):
            raise MalformedRequest("The body is empty; a JSON object belongs there.")
        return body

    async def json(self) -> Any:
        """Decode the body to the route's struct. Raises MalformedRequest, and InvalidRequest with every fault."""
        handler = self.route_handler
        assert isinstance(handler, HTTPRouteHandler)  # noqa: S101 (only HTTP routes have bodies)
        annotation: type[Struct] = handler.parsed_fn_signature.parameters["data"].annotation
        return decode_strictly(await self.body(), annotation, "The body")


def decode_strictly(content: bytes, target: type[T], name: str) -> T:
    """Decode JSON to the struct; `name` says what it is. Raises MalformedRequest, InvalidRequest with every fault."""
    try:
        value: object = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedRequest(f"{name} is not valid JSON: {error}.") from error
    except RecursionError as error:
        raise MalformedRequest(f"{name} is nested too deeply.") from error
    return convert_strictly(value, target)


def convert_strictly(value: object, target: type[T]) -> T:
    """Convert plain JSON values to the struct without coercion. Raises InvalidRequest with every fault."""
    if found := tuple(faults(value, target)):
        raise InvalidRequest("The request's body is invalid.", errors=found)
    return msgspec.convert(value, target)


def faults(value: object, target: type[Struct], path: str = "") -> Iterator[FieldError]:
    """Yield every fault of a JSON value: wrong types and ranges, missing and unknown fields, at any depth."""
    if not isinstance(value, dict):
        yield FieldError(path.rstrip(".") or "body", "must be an object")
        return
    given: dict[str, object] = value  # pyright: ignore[reportUnknownVariableType] (JSON keys are text)
    known = _fields(target)
    for name in given.keys() - known.keys():
        yield FieldError(f"{path}{name[:100]}", "is not a known field")
    for name, info in known.items():
        if name in given:
            yield from _field_faults(given[name], info.type, f"{path}{name}")
        elif info.required:
            yield FieldError(f"{path}{name}", "is required")


@cache
def _fields(target: type[Struct]) -> dict[str, FieldInfo]:
    """Return the fields by their names on the wire; cached, because this takes longer than the rest of decoding."""
    return {info.encode_name: info for info in fields(target)}


def _field_faults(value: object, annotation: Any, path: str) -> Iterator[FieldError]:
    is_object = isinstance(value, dict)
    if (nested := _struct(annotation) or (_struct_of(annotation) if is_object else None)) is not None:
        yield from faults(value, nested, f"{path}.")
        return
    item = _item(annotation)
    if item is not None and isinstance(value, list):
        listed: list[object] = value  # pyright: ignore[reportUnknownVariableType] (any JSON values)
        yield from _list_faults(listed, annotation, item, path)
        return
    member = _member(annotation)
    if member is not None and isinstance(value, dict):
        given: dict[str, object] = value  # pyright: ignore[reportUnknownVariableType] (JSON keys are text)
        yield from _dictionary_faults(given, annotation, member, path)
        return
    yield from _conversion_faults(value, annotation, path)


def _list_faults(value: list[object], annotation: Any, item: type[Struct], path: str) -> Iterator[FieldError]:
    """Yield the faults of each item; if there are none, those of the list as a whole."""
    found = [fault for place, one in enumerate(value) for fault in faults(one, item, f"{path}[{place}].")]
    yield from found or _conversion_faults(value, annotation, path)


def _dictionary_faults(value: dict[str, object], annotation: Any, member: Any, path: str) -> Iterator[FieldError]:
    """Yield the faults of each member; if there are none, those of the dictionary as a whole and of its keys."""
    found = [
        fault
        for name, item in value.items()
        if item is not None
        for fault in faults(item, member, f"{path}.{name[:100]}.")
    ]
    yield from found or _conversion_faults(value, annotation, path)


def _conversion_faults(value: object, annotation: Any, path: str) -> Iterator[FieldError]:
    try:
        msgspec.convert(value, annotation)
    except msgspec.ValidationError as error:
        yield FieldError(path, _reason(error, annotation))


def _struct(annotation: object) -> type[Struct] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, Struct) else None


def _struct_of(annotation: Any) -> type[Struct] | None:
    """Return the struct among the types of a union; None without one."""
    return next(filter(None, map(_struct, _alternatives(annotation))), None)


def _item(annotation: Any) -> type[Struct] | None:
    """Return the struct that the items of a list are; None for any other type."""
    for option in _alternatives(annotation):
        if get_origin(option) is tuple:
            return _struct_of(get_args(option)[0])
    return None


def _member(annotation: Any) -> type[Struct] | None:
    """Return the struct that the values of a dictionary are; None for any other type."""
    for option in _alternatives(annotation):
        if get_origin(option) is dict:
            return next(filter(None, map(_struct, _alternatives(get_args(option)[1]))), None)
    return None


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """Return the types of a union, without their constraints."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in {Union, UnionType}:
        return tuple(option for part in get_args(annotation) for option in _alternatives(part))
    return (annotation,)


def _reason(error: msgspec.ValidationError, annotation: object) -> str:
    literals = [option for option in _alternatives(annotation) if get_origin(option) is Literal]
    if literals:
        return "must be one of: " + ", ".join(str(word) for option in literals for word in get_args(option))
    return str(error).partition(" - at ")[0]


async def refuse_unknown_parameters(request: Request[Any, Any, Any]) -> None:
    """Refuse unknown or repeated query parameters, as Litestar's `before_request`.

    Raises InvalidRequest: a misspelt filter must not silently select everything.
    """
    if not request.scope["query_string"]:
        return
    query = request.query_params
    handler = request.route_handler
    known = {
        definition.kwarg_definition.name or name
        for name, definition in handler.parsed_fn_signature.parameters.items()
        if isinstance(definition.kwarg_definition, QueryParameter)
    }
    errors = [FieldError(name[:100], "is not a known parameter") for name in query if name not in known]
    errors += [FieldError(name, "is given twice") for name in known if len(query.getall(name, [])) > 1]
    if errors:
        raise InvalidRequest("The request's parameters are invalid.", errors=errors)
