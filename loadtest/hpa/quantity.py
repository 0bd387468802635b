"""Quantities of Kubernetes ("250m", "512Mi", "1.5") as integers of thousandths."""

from __future__ import annotations

import re

MAX_MILLI = 2**63 - 1
MAX_DIGITS = 40
"""Digits of a number and size of an exponent that are looked at: far beyond what fits, and cheap to refuse."""

_FORM = re.compile(r"([+-]?)(\d*)(?:\.(\d*))?(|[numkMGTPE]|[KMGTPE]i|[eE][+-]?\d+)", re.ASCII)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}


class Quantity(int):
    """A quantity in thousandths of its unit."""


def milli(written: object) -> Quantity:
    """Return the thousandths of a quantity, rounded up (away from zero) as the controller rounds.

    Raises ValueError for what Kubernetes refuses, and for what overflows its 64-bit integers.
    """
    if isinstance(written, bool) or not isinstance(written, (str, int, float)):
        message = f"a quantity is text or a number, such as 250m or 512Mi, not {type(written).__name__}"
        raise ValueError(message)  # noqa: TRY004 - msgspec adds the path to a ValueError
    text = str(written).strip()
    found = _FORM.fullmatch(text)
    if not found or not (found[2] or found[3]):
        raise ValueError(f"{text[:MAX_DIGITS]!r} is no quantity: write it like 250m, 1.5 or 512Mi")
    whole, decimals, suffix = found[2], found[3] or "", found[4]
    exponent = int(suffix[1:]) if suffix[1:].lstrip("+-").isdigit() else _DECIMAL.get(suffix, 0)
    if len(whole) + len(decimals) > MAX_DIGITS or abs(exponent) > MAX_DIGITS:
        raise ValueError(f"{text[:MAX_DIGITS]!r} has too many digits for a quantity")
    size = _scaled(int(whole + decimals), exponent - len(decimals) + 3, _BINARY.get(suffix, 0))
    if size > MAX_MILLI:
        raise ValueError(f"{text!r} is above 9223372036854775807 thousandths, where the controller's integers overflow")
    return Quantity(-size if found[1] == "-" else size)


def _scaled(digits: int, tens: int, twos: int) -> int:
    """Return digits times a power of ten and a power of two, rounded up."""
    digits <<= twos
    return digits * 10**tens if tens >= 0 else -(-digits // 10**-tens)
