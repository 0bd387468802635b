"""Parsed JSON or YAML as typed structs, with errors that name the field."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from loadtest.errors import BadInput
from loadtest.hpa.quantity import Quantity, milli

T = TypeVar("T")


def read_form(document: object, form: type[T], where: str = "") -> T:
    """Return parsed JSON or YAML as a struct; raise BadInput with the field's path on one line."""
    try:
        return msgspec.convert(document, form, dec_hook=_decode)
    except msgspec.ValidationError as wrong:
        raise BadInput(f"{where}{_explain(str(wrong))}") from None


def _decode(form: type, written: object) -> object:
    """Read what msgspec does not know: quantities."""
    if form is Quantity:
        return milli(written)
    raise NotImplementedError(f"no decoder for {form}")


def _explain(message: str) -> str:
    """Return msgspec's message with the field first."""
    said, _, path = message.partition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    for beginning, advice in (
        ("Object missing required field `", "is missing: add it"),
        ("Object contains unknown field `", "is not a field here: correct its name or remove it"),
    ):
        if said.startswith(beginning):
            name = said.removeprefix(beginning).rstrip("`")
            return f"field {path}{'.' if path else ''}{name} {advice}"
    return f"field {path}: {said}" if path else said
