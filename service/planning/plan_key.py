"""Compute the plan cache's key: equal for two requests that one plan serves.

A key that takes two requests for one would serve a wrong plan; one that takes equal requests for two only costs
another planning. In doubt they differ: the sentence is normalised only as far as no meaning can be lost.
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
"""Increased when what a key is made of changes."""

MAX_FOLDED = 1000
"""Characters of the longest sentence that is normalised beyond ASCII. One character may become 18, and marks are sorted
in quadratic time: 10 000 characters would hold the event loop for an eighth of a second."""

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
    """Return the SHA-256 (hex) of all that shapes a request's plan, with its owner: no other principal is served it.

    `models` are the planning models in their order, `versions` those of whatever else the plan depends on.
    """
    profile = request.dataset.profile
    columns = [(column.name, column.logical_type, column.physical_type, column.personal) for column in profile.columns]
    shaping = (
        FORMAT,
        request.dataset.owner,
        profile.fingerprint,
        columns,  # the fingerprint knows them as they were read, not what was made of them
        _sentence(request.description, profile),
        astuple(request.options),
        list(models),
        list(versions),
    )
    # The ASCII form of nested tuples, lists, strings and numbers is unambiguous whatever the strings hold.
    return hashlib.sha256(ascii(shaping).encode()).hexdigest()


def normalise(description: str) -> str:
    """Return the sentence without what makes no difference: case, width, white space, punctuation at its end.

    Quoted parts stay as they are, since they name values; so does a whole sentence over `MAX_FOLDED` characters that is
    not ASCII.
    """
    if len(description) > MAX_FOLDED and not description.isascii():
        return description
    parts = _QUOTED.split(description)
    parts[::2] = [_fold(part) for part in parts[::2]]
    return "".join((*parts[:-1], parts[-1].rstrip(_TRAILING))).strip()


def _sentence(description: str, profile: Profile) -> str:
    """Return the normalised sentence; unchanged where names or values of the dataset differ by no more than that."""
    return description if _is_exact(profile) else normalise(description)


def _is_exact(profile: Profile) -> bool:
    words = set(_words(profile))
    return len({_fold(word).strip(_TRAILING) for word in words}) < len(words)


def _words(profile: Profile) -> Iterator[str]:
    for column in profile.columns:
        yield column.name
        yield from (value.value for value in column.top_values)
        yield from column.examples


def _fold(text: str) -> str:
    if text.isascii():
        text = text.lower()  # a profile may hold tens of thousands of words, nearly all ASCII
    else:
        form = "NFC" if any(map(_means_more, text)) else "NFKC"
        text = unicodedata.normalize(form, unicodedata.normalize(form, text).casefold())
    return text if text.isprintable() and "  " not in text else _SPACE.sub(" ", text)


def _means_more(character: str) -> bool:
    return unicodedata.decomposition(character).startswith(_MEANING)
