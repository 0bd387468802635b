"""Make words of sentences and column names comparable: split, stemmed lightly, grouped by meaning.

The prompt uses this to rank columns by relevance, and the built-in planner to read sentences. Nothing here depends on a
dataset; the groups are common vocabulary of event logs, sales, sensors and measurements.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Literal

_CONCEPT_WORDS: Mapping[str, str] = {
    # things that have rows
    "user": "user customer client account member visitor subscriber person people buyer shopper player borrower "
    "patient student employee cust usr acct uid userid",
    "item": "item product sku article good listing merchandise prod asin",
    "session": "session visit sid",
    "store": "store shop branch seller vendor merchant supplier",
    "machine": "sensor device machine station meter unit equipment engine asset",
    # things that happen
    "impression": "impression view viewed display exposure pageview seen",
    "click": "click tap clickthrough ctr",
    "cart": "cart basket",
    "purchase": "purchase conversion convert order buy bought transaction checkout sale sold paid cvr txn invoice",
    "signup": "signup register registration subscribe subscription",
    "login": "login signin logon",
    "refund": "refund return chargeback",
    "search": "search query",
    "like": "like favourite favorite upvote",
    "error": "error failure fail fault alarm crash",
    "default": "default defaulted delinquent delinquency",
    "churn": "churn attrition churned cancelled cancellation",
    # measures
    "money": "price amount revenue value cost total spend spent spending sale income payment fare turnover amt gmv "
    "money monetary balance charge",
    "quantity": "quantity qty volume",
    "duration": "duration dwell second minute length elapsed duree dauer",
    "temperature": "temperature temp celsius fahrenheit",
    "rating": "rating star score grade",
    "position": "position rank slot",
    "distance": "distance km kilometre kilometer mile metre",
    # descriptions
    "time": "time date timestamp datetime created ts day dt when moment at",
    "place": "country region city location state place geo geography",
    "platform": "device browser os platform app mobile",
    "category": "category type class segment kind species genre department cat",
    "channel": "channel source campaign referrer medium",
    "text": "text review comment message description body note feedback content headline narrative",
}
_EXCEPTIONS: Mapping[str, str] = {
    "rating": "rating", "ratings": "rating", "during": "during", "string": "string", "data": "data", "has": "has",
    "bought": "bought", "is": "is", "as": "as", "was": "was", "this": "this", "os": "os", "status": "status",
    "clickthrough": "clickthrough", "used": "use", "united": "united", "need": "need", "speed": "speed",
}  # fmt: skip
MAX_SENTENCE_WORDS = 800
"""Words of a sentence that are read. 4 000 characters of prose have some 700; a sentence without spaces, many more."""
_SHORT = 4
"""A word with at least this many letters may abbreviate a longer word that it begins (temp, temperature)."""


_ASCII_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_RUN = re.compile(r"\S{1,32}")


def tokens(text: str) -> tuple[str, ...]:
    """Split a text or name into lower-case words, at snake, kebab and camel case and between digits and letters."""
    if text.isascii():
        return tuple(word.lower() for word in _ASCII_WORD.findall(text))
    return tuple(_split(unicodedata.normalize("NFKC", text)).casefold().split())


def beginning(text: str, limit: int = MAX_SENTENCE_WORDS) -> str:
    """Return the beginning of a text that has at most `limit` words as `tokens` counts them.

    The text is cut at white space, or within what has no white space for 32 characters.
    """
    words = 0
    for run in _RUN.finditer(text):
        words += len(tokens(run[0]))
        if words > limit:
            return text[: run.start()]
    return text


def _breaks(text: str, index: int) -> bool:
    before, here = text[index - 1], text[index]
    if before.isdigit() != here.isdigit():
        return True
    if here.isupper() and before.islower():
        return True
    after = text[index + 1 : index + 2]
    return before.isupper() and here.isupper() and after.islower() and after.isalpha()


def _split(text: str) -> str:
    """Write a space in place of each character that is part of no word, and between the words of camel case."""
    characters: list[str] = []
    for index, character in enumerate(text):
        if index and _breaks(text, index):
            characters.append(" ")
        characters.append(character if character.isalnum() else " ")
    return "".join(characters)


@lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """Remove common English endings from a word; leave other words unchanged."""
    if word in _EXCEPTIONS:
        return _EXCEPTIONS[word]
    if not word.isascii() or len(word) <= 3:  # noqa: PLR2004 - short words carry no ending worth cutting
        return word
    return _without_e(_without_tense(_singular(word)))


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:  # noqa: PLR2004 - "ties" is no plural of "ty"
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def _without_tense(word: str) -> str:
    for ending, shortest in (("ing", 6), ("ed", 5)):
        if word.endswith(ending) and len(word) >= shortest:
            root = word[: -len(ending)]
            doubled = len(root) > 2 and root[-1] == root[-2] and root[-1] not in "lsz"  # noqa: PLR2004 - "ee"
            return root[:-1] if doubled else root
    return word


def _without_e(word: str) -> str:
    return word[:-1] if word.endswith("e") and len(word) > 3 else word  # noqa: PLR2004 - "age" is a word


def stems(text: str) -> tuple[str, ...]:
    """Split a text into words and stem each."""
    return tuple(stem(token) for token in tokens(text))


def stemmed(words: str) -> frozenset[str]:
    """Stem a space-separated list of words."""
    return frozenset(stem(word) for word in words.split())


CONCEPT_VOCABULARY: frozenset[str] = frozenset(word for words in _CONCEPT_WORDS.values() for word in words.split())
"""Words of all meaning groups, unstemmed."""
CONCEPTS: Mapping[str, frozenset[str]] = {name: stemmed(words) for name, words in _CONCEPT_WORDS.items()}
"""Name of a meaning group → stems of its words."""

FUNCTION_WORDS: frozenset[str] = stemmed(
    "a an the and or of for to in on at by per with without from into over under within across between during "
    "each every all any some most more less than that this these those which who whom whose what when where how "
    "is are was were be been being has have had do does did can could should would may might will shall not no "
    "i we you they he she it me us them my our your their its his her as if then else so such very much many "
    "please like want need would there here also just only both either about based using use used it s d ll"
)
GENERIC_WORDS: frozenset[str] = stemmed(
    "feature features variable attribute predictor column field row record observation sample example entry "
    "dataset data table file model learning ml ai engine system pipeline algorithm training train "
    "predict prediction predicting predictive forecast classify classification classifier regression cluster "
    "clustering estimate estimation detect detection recommend recommendation recommender engineering engineer "
    "extract extraction compute calculate create build make generate derive derived get give find produce "
    "provide describe describing description capture capturing summarize summarise summary help useful good best "
    "great relevant meaningful important interesting informative new simple basic standard common various "
    "different several set list kind type way thing stuff information insight signal pattern behavior behaviour "
    "behavioral behavioural activity engagement engage loyalty retention churn fraud personalization "
    "personalisation personalize ranking target label outcome level grain entity metric measure measurement "
    "statistic stat statistical aggregate aggregation analysis analyse analyze characterise characterize "
    "profile profiling history historical event interaction action log logs time series something anything "
    "everything whatever possible appropriate suitable specific general quality high low event business"
)
WEAK_NAME_PARTS: frozenset[str] = stemmed(
    "id type name date time at is has num no number key code of the in on ts flag mm cm m km g kg mg lb oz kpa pa "
    "hpa c f k w kw kwh v pct percent usd eur gbp s sec ms h hr"
)
"""Parts of column names that say little about the column, such as units."""

_WEAK = WEAK_NAME_PARTS | FUNCTION_WORDS

Strength = Literal[0, 1, 2, 3, 4]


@lru_cache(maxsize=8192)
def concepts(word: str) -> frozenset[str]:
    """Return the meaning groups of a stemmed word."""
    return frozenset(name for name, members in CONCEPTS.items() if word in members)


class Phrase:
    """Hold the stems of a sentence or noun phrase, indexed so that looking for a word takes no walk through them."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words = tuple(words)
        self.set = frozenset(self.words)
        self._joined = f" {' '.join(self.words)} "

    def __contains__(self, word: str) -> bool:
        return word in self.set

    def has(self, part: Sequence[str]) -> bool:
        """Check whether `part` occurs without a gap."""
        return bool(part) and f" {' '.join(part)} " in self._joined

    def names(self, word: str) -> bool:
        """Check whether one of the words, function words aside, is the same as `word`, or one abbreviates the other."""
        return self._spoken.has_same(word)

    @cached_property
    def meanings(self) -> frozenset[str]:
        """Return the meaning groups of the words that are not general."""
        return meanings(self.set - FUNCTION_WORDS - GENERIC_WORDS)

    @cached_property
    def _spoken(self) -> Abbreviations:
        return Abbreviations(self.set - FUNCTION_WORDS)


class Abbreviations:
    """Hold stems so that the ones which abbreviate a word, or which it abbreviates, are found without a walk."""

    def __init__(self, words: frozenset[str]) -> None:
        self._words = words
        self._sorted = sorted(words)
        self._longest = max(map(len, words), default=0)

    def has_same(self, word: str) -> bool:
        """Check whether one of the stems equals the word, or one abbreviates the other."""
        return (
            word in self._words or self._abbreviated_by(word) or any(map(self._words.__contains__, self._starts(word)))
        )

    def _abbreviated_by(self, word: str) -> bool:
        if len(word) < _SHORT or not word.isalpha():
            return False
        place = bisect_left(self._sorted, word)
        return place < len(self._sorted) and self._sorted[place].startswith(word)

    def _starts(self, word: str) -> Iterator[str]:
        """Yield the beginnings of a word that may abbreviate it."""
        for length in range(_SHORT, min(len(word), self._longest + 1)):
            if not word[length - 1].isalpha() or (length == _SHORT and not word[:_SHORT].isalpha()):
                return
            yield word[:length]


def same(word: str, other: str) -> bool:
    """Check whether two stems are one word, or one abbreviates the other."""
    if word == other:
        return True
    short, long = sorted((word, other), key=len)
    return len(short) >= _SHORT and long.startswith(short) and short.isalpha()


def mention(name_stems: Sequence[str], sentence: Phrase) -> Strength:
    """Score how clearly a sentence mentions a column (stems of its name).

    4: its whole name; 3: all meaningful parts; 2: one of them; 1: a word of the same meaning group; 0: nothing.
    """
    if sentence.has(name_stems):
        return 4
    parts = meaningful_parts(frozenset(name_stems))
    named = sum(map(sentence.names, parts))
    if parts and named == len(parts):
        return 3
    if named:
        return 2
    return 0 if meanings(parts or name_stems).isdisjoint(sentence.meanings) else 1


def meaningful_parts(name_stems: Iterable[str]) -> list[str]:
    """Return the parts of a column's name that say what it is about."""
    return [part for part in name_stems if part not in _WEAK and not part.isdigit()]


def meanings(words: Iterable[str]) -> frozenset[str]:
    """Return the meaning groups of stems."""
    return frozenset(group for word in words for group in concepts(word))


def lower(text: str) -> str:
    """Write a text in lower case without changing its length."""
    return text.lower() if text.isascii() else "".join(character.lower()[0] for character in text)


def ascii_words(text: str) -> str:
    """Write the text as lower-case ASCII words joined by underscores; empty if no letter can be converted."""
    plain = unicodedata.normalize("NFKD", text.replace("ß", "ss")).encode("ascii", "ignore").decode()
    return "_".join(tokens(plain))
