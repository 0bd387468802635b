"""Find what a sentence excludes: "without the price", "do not use age or country", "leave out MRR"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from service.agents.builtin.lexicon import KNOWN_WORDS
from service.agents.words import Phrase, mention, stems
from service.concurrency.threads import checked

_UNWANTED = re.compile(
    r"(?:,\s*|\b(?:and|but)\s+)?"
    r"\b(?:without(?!\s+(?:an?|any)\b)(?:\s+(?:using|considering|looking at|the use of))?"
    r"|exclud(?:e|es|ing)|except(?:ing)?(?:\s+for)?|omit(?:ting)?|ignor(?:e|ing)|disregard(?:ing)?|skip(?:ping)?"
    r"|leav(?:e|ing)\s+out|leav(?:e|ing)\s+aside|avoid(?:ing)?|forget|nothing\s+(?:about|on|from)"
    r"|(?:do\s+not|don['\u2019]?t|never|must\s+not|should\s+not|not)\s+(?:us(?:e|ing)|includ(?:e|ing)|consider(?:ing)?"
    r"|touch(?:ing)?|rely(?:ing)?\s+on|look(?:ing)?\s+at|read(?:ing)?|need|want))\b"
    r"(?P<what>[^.;:!?()\n]*)",
    re.IGNORECASE,
)
_ITEM = re.compile(r",|\b(?:and|or|nor)\b|/", re.IGNORECASE)


def split_off(text: str) -> tuple[str, tuple[tuple[str, ...], ...]]:
    """Return the sentence without its exclusions, and the exclusions as phrases of stems."""
    items = (stems(item) for match in _UNWANTED.finditer(text) for item in _ITEM.split(match["what"]))
    phrases = dict.fromkeys(tuple(word for word in item if word not in KNOWN_WORDS or len(item) == 1) for item in items)
    rest = _UNWANTED.sub(" ", text)
    return (rest if rest.strip() else text), tuple(phrase for phrase in phrases if phrase)


def unwanted(names: Iterable[str], phrases: Sequence[Sequence[str]]) -> frozenset[str]:
    """Return the columns that the phrases name most clearly; part of a name is enough."""
    parts = {name: stems(name) for name in names}
    found: set[str] = set()
    for phrase in checked(map(Phrase, phrases)):
        strengths = {name: mention(stemmed, phrase) for name, stemmed in parts.items()}
        least = min(3, max(strengths.values(), default=0))
        if least >= 2:  # noqa: PLR2004 - a part of the name
            found |= {name for name, strength in strengths.items() if strength >= least}
    return frozenset(found)
