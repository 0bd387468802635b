"""Merge what a client says of how a dataset is read into what it has said before."""

from __future__ import annotations

from typing import Any

import msgspec

from service.features.errors import InvalidRequest
from service.features.model import FieldError, ReadOptions

MAX_OVERRIDES_BYTES = 256 * 1024
"""Of JSON. They are read with each row of a list of datasets."""


def patched(overrides: ReadOptions, patch: dict[str, Any]) -> ReadOptions:
    """Apply a merge patch (RFC 7396): null removes a member, an object is merged, anything else replaces.

    Raises InvalidRequest for more than a dataset may have.
    """
    merged = _merged(msgspec.to_builtins(overrides), patch)
    columns = {name: column for name, column in merged.get("columns", {}).items() if column}
    try:
        result = msgspec.convert(merged | {"columns": columns}, ReadOptions)
    except msgspec.ValidationError as error:  # each patch was valid, but not all of them together
        raise InvalidRequest("The overrides are too many.", errors=[FieldError("columns", str(error))]) from None
    if len(msgspec.json.encode(result)) > MAX_OVERRIDES_BYTES:
        fault = FieldError("columns", f"all overrides together take more than {MAX_OVERRIDES_BYTES} bytes of JSON")
        raise InvalidRequest("The overrides are too large.", errors=[fault])
    return result


def _merged(target: object, patch: object) -> Any:
    if not isinstance(patch, dict):
        return patch
    members: dict[str, object] = patch  # pyright: ignore[reportUnknownVariableType] (keys are text)
    merged: dict[str, Any] = dict(target) if isinstance(target, dict) else {}  # pyright: ignore[reportUnknownArgumentType]
    for name, value in members.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merged(merged.get(name), value)
    return merged
