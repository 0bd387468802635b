"""When two requests are equal, so that one plan serves both: the plan cache's key.

A key that takes two requests for one would serve a wrong plan; one that takes equal requests for two only costs
another planning. In doubt, then, they differ: the sentence is folded only as far as no meaning can be lost.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence

from msgspec.structs import astuple

from service.features.model import Profile
from service.features.ports import PlanRequest

FORMAT = 1
"""Raised when what a key is made of changes."""

_TRAILING = " .,;:!?\u3002"
_DOUBLE = '"`\u201c\u201d\u201e\u00ab\u00bb\u1fef\uff02\uff40'
_OPENING, _CLOSING = "'\u2018\uff07", "'\u2019\uff07"
"""Quotation marks, with all forms that NFKC would turn into one."""
_QUOTED = re.compile(
    rf"([{_DOUBLE}][^{_DOUBLE}]*(?:[{_DOUBLE}]|\Z)"
    rf"|(?<!\w)[{_OPENING}](?:[^{_OPENING}{_CLOSING}]|(?<=\w)[{_CLOSING}](?=\w))*[{_CLOSING}](?!\w))"
)
"""Between double marks, closed or not, or between single ones that are no apostrophes."""
_SPACE = re.compile(r"\s+")
_MEANING = ("<super>", "<sub>", "<fraction>", "<circle>", "<square>")
"""Compatibility forms that say more than their plain ones: NFKC would make 102 of 10²."""


def plan_key(request: PlanRequest, *, models: Sequence[str], versions: Sequence[str]) -> str:
    """SHA-256 (hex) of all that shapes a request's plan, its owner first: no plan is served to another principal.

    `models` are the planning models in their order, `versions` those of whatever else the plan depends on.
    """
    profile = request.dataset.profile
    columns = [(column.name, column.logical_type, column.physical_type, column.personal) for column in profile.columns]
    shaping = (
        FORMAT,
        request.dataset.owner,
        profile.fingerprint,
        columns,  # the fingerprint knows them as they were read, not what was made of them
        _told(request.description, profile),
        astuple(request.options),
        list(models),
        list(versions),
    )
    # The ASCII form of nested tuples, lists, strings and numbers is unambiguous whatever the strings hold.
    return hashlib.sha256(ascii(shaping).encode()).hexdigest()


def normalise(description: str) -> str:
    """The sentence without what makes no difference: case, width, white space, punctuation at its end.

    Quoted parts stay to the letter, as they name values.
    """
    parts = _QUOTED.split(description)
    parts[::2] = [_fold(part) for part in parts[::2]]
    return "".join((*parts[:-1], parts[-1].rstrip(_TRAILING))).strip()


def _told(description: str, profile: Profile) -> str:
    """The normalised sentence; as it is written where the dataset itself tells names or values apart by no more."""
    return description if _tells_apart(profile) else normalise(description)


def _tells_apart(profile: Profile) -> bool:
    words = set(_words(profile))
    return len({_fold(word).strip(_TRAILING) for word in words}) < len(words)


def _words(profile: Profile) -> Iterator[str]:
    for column in profile.columns:
        yield column.name
        yield from (value.value for value in column.top_values)
        yield from column.examples


def _fold(text: str) -> str:
    if text.isascii():
        text = text.lower()  # a profile may hold ten thousands of words, and nearly all of them are such
    else:
        form = "NFC" if any(map(_means_more, text)) else "NFKC"
        text = unicodedata.normalize(form, unicodedata.normalize(form, text).casefold())
    return text if text.isprintable() and "  " not in text else _SPACE.sub(" ", text)


def _means_more(character: str) -> bool:
    return unicodedata.decomposition(character).startswith(_MEANING)
