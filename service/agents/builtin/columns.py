"""Classify the columns of a prompt by how features can use them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

from msgspec import Struct

from service.agents.builtin.candidates import slug
from service.agents.builtin.exclusions import unwanted
from service.agents.builtin.leaks import leaking_columns
from service.agents.builtin.reading import Reading
from service.agents.prompts import Column, Request
from service.agents.words import CONCEPTS, Abbreviations, Phrase, meaningful_parts, meanings, mention, stems, tokens
from service.concurrency.threads import checked
from service.features.operations import Scalar

KEY_PARTS = frozenset(("id", "uuid", "guid", "key", "pk", "sk", "code", "no", "number", "nr", "hash", "ref"))
"""Words that end a key's name."""
CODE_PARTS = frozenset(("code", "no", "number", "nr"))
FEW_CODES = 50
"""A code with at most this many values is a label: a diagnosis, a status, a zone."""
COMPOUNDS = ("nr", "nummer", "nummern")
"""Endings of key names in languages that join words: Kundennr, ordernummer."""
CALENDAR = frozenset(stems("year month quarter week day hour weekday"))
"""Whole numbers with such a name are labels, not measures."""
ENTITY_CONCEPTS = ("user", "machine", "store", "item", "session")
"""What rows may be about, in the order of guessing when the sentence names no entity."""
MAX_CATEGORIES = 1_000
"""Above this number of distinct values a column is not used for grouping."""
REPEATS = 0.8
"""A key repeats if its share of distinct values is at most this."""
TRUE_VALUES = frozenset(("true", "yes", "y", "t", "1"))
FALSE_VALUES = frozenset(("false", "no", "n", "f", "0"))


class ColumnMatch(Struct, frozen=True, dict=True):
    """A column, the stems of its name, and how clearly the sentence mentions it (0 … 4)."""

    column: Column
    stems: tuple[str, ...]
    strength: int
    slug: str
    """The column's part of a feature's name."""

    @property
    def name(self) -> str:
        """Return the name as the dataset has it."""
        return self.column.name

    @cached_property
    def meanings(self) -> frozenset[str]:
        """Return the meaning groups of the words in its name."""
        return meanings(self.stems)

    @cached_property
    def values(self) -> tuple[tuple[Scalar, tuple[str, ...]], ...]:
        """Return the frequent values, each with its stems."""
        return tuple((entry.value, stems(str(entry.value))) for entry in self.column.values)


class ColumnIndex(Struct, frozen=True, dict=True):
    """Hold the columns by use. Target, constant, empty and personal columns can only be a requested entity."""

    row_count: int
    all: tuple[ColumnMatch, ...]
    numbers: tuple[ColumnMatch, ...]
    flags: tuple[ColumnMatch, ...]
    """Boolean columns, and whole-number columns that hold only 0 and 1."""
    categories: tuple[ColumnMatch, ...]
    """Categorical columns that are not boolean."""
    texts: tuple[ColumnMatch, ...]
    times: tuple[ColumnMatch, ...]
    keys: tuple[ColumnMatch, ...]
    """Identifiers, and columns with names like identifiers."""
    excluded: tuple[str, ...] = ()
    """Columns that the sentence excludes."""
    leaking: tuple[str, ...] = ()
    """Columns that leak the target."""

    def find(self, name: str | None) -> ColumnMatch | None:
        """Return the column with exactly that name."""
        return None if name is None else self._by_name.get(name)

    def place(self, match: ColumnMatch) -> int:
        """Return the column's place among all."""
        return self._places[match.name]

    @cached_property
    def names(self) -> Abbreviations:
        """Return the stems of all names."""
        return Abbreviations(frozenset(part for match in self.all for part in match.stems))

    @cached_property
    def meanings(self) -> frozenset[str]:
        """Return the meaning groups of all names."""
        return frozenset(group for match in self.all for group in match.meanings)

    @cached_property
    def value_stems(self) -> frozenset[str]:
        """Return the stems of all values."""
        return frozenset(part for match in self.all for _, parts in match.values for part in parts)

    @cached_property
    def value_meanings(self) -> frozenset[str]:
        """Return the meaning groups of all values."""
        return meanings(self.value_stems)

    @cached_property
    def _by_name(self) -> dict[str, ColumnMatch]:
        return {match.name: match for match in reversed(self.all)}

    @cached_property
    def _places(self) -> dict[str, int]:
        return {match.name: place for place, match in enumerate(self.all)}

    @cached_property
    def usable(self) -> tuple[ColumnMatch, ...]:
        """Return every column that a feature may read."""
        return (*self.numbers, *self.flags, *self.categories, *self.texts, *self.times, *self.keys)

    def repeats(self, match: ColumnMatch) -> bool:
        """Check whether several rows usually share a value."""
        filled = self.row_count * (1 - match.column.missing)
        return 1 < match.column.distinct <= REPEATS * filled


def classify_columns(request: Request, reading: Reading) -> ColumnIndex:
    """Classify the columns of a request."""
    target = request.options.target or _predicted(request.columns, reading)
    excluded = _excluded(request, reading)
    leaking = _leaking(request, target)
    barred = {target, *excluded, *leaking}
    strengths = _strengths(request.columns, reading)
    everything = tuple(
        ColumnMatch(column, stems(column.name), strengths[column.name], slug(column.name, position))
        for position, column in enumerate(checked(request.columns))
    )
    usable = [match for match in everything if match.name not in barred and _informative(match.column)]
    kinds = _by_kind(usable)
    return ColumnIndex(
        row_count=request.row_count,
        all=everything,
        numbers=kinds["number"],
        flags=kinds["flag"],
        categories=kinds["category"],
        texts=kinds["text"],
        times=kinds["time"],
        keys=kinds["key"],
        excluded=tuple(match.name for match in everything if match.name in excluded),
        leaking=tuple(match.name for match in everything if match.name in leaking),
    )


def _excluded(request: Request, reading: Reading) -> frozenset[str]:
    """Return the columns that the sentence excludes; keys and the client's fixed columns are never excluded."""
    named = [column.name for column in request.columns if column.type != "identifier"]
    return unwanted(named, reading.excluded) - {request.options.entity, request.options.time}


def _leaking(request: Request, target: str | None) -> frozenset[str]:
    """Return the columns that leak the target, except those that the client fixed."""
    predicted = next((column for column in request.columns if column.name == target), None)
    if predicted is None:
        return frozenset()
    return leaking_columns(request.columns, predicted) - {request.options.entity, request.options.time}


def _strengths(columns: Iterable[Column], reading: Reading) -> dict[str, int]:
    """Score how clearly each column is mentioned; a word of one column's whole name is no partial match of another."""
    names = {column.name: stems(column.name) for column in columns}
    strengths: dict[str, int] = {name: mention(parts, reading.sentence) for name, parts in checked(names.items())}
    keys = {column.name for column in columns if column.type == "identifier"}
    exact = {tuple(meaningful_parts(names[name])) for name, strength in strengths.items() if strength == 4}  # noqa: PLR2004 - whole names
    for name, parts in names.items():
        if strengths[name] == 3 and tuple(meaningful_parts(parts)) in exact:  # noqa: PLR2004 - pressure_11 beside pressure_1
            strengths[name] = 0
    whole = {
        part
        for name, parts in names.items()
        if strengths[name] >= 3 and name not in keys  # noqa: PLR2004 - all meaningful parts
        for part in parts
    }
    return {
        name: 0
        if strength == 2 and {part for part in names[name] if part in reading.sentence} <= whole  # noqa: PLR2004 - a part
        else strength
        for name, strength in strengths.items()
    }


def _predicted(columns: Iterable[Column], reading: Reading) -> str | None:
    """Return the column that the sentence wants predicted; no feature may read it, even without a `target` option."""
    if not reading.predicted:
        return None
    predicted = Phrase(reading.predicted)
    return next((column.name for column in columns if mention(stems(column.name), predicted) >= 3), None)  # noqa: PLR2004 - all meaningful parts of the name


def _informative(column: Column) -> bool:
    return column.distinct > 1 and column.missing < 1 and not column.personal


def _by_kind(usable: Iterable[ColumnMatch]) -> Mapping[str, tuple[ColumnMatch, ...]]:
    kinds: dict[str, list[ColumnMatch]] = {
        "number": [], "flag": [], "category": [], "text": [], "time": [], "key": [], "none": [],
    }  # fmt: skip
    for match in usable:
        kinds[_kind(match)].append(match)
    return {kind: tuple(sorted(members, key=lambda match: -match.strength)) for kind, members in kinds.items()}


def _kind(match: ColumnMatch) -> str:
    type_ = match.column.type
    if type_ == "identifier" or (type_ in {"integer", "categorical"} and _named_like_key(match)):
        return "key"
    if type_ == "boolean" or (type_ == "integer" and _zero_or_one(match.column)):
        return "flag"
    if type_ == "integer" and (_is_calendar(match) or _is_code(match)):
        return "category"
    return {
        "numeric": "number", "integer": "number", "categorical": "category", "datetime": "time", "text": "text",
    }[type_]  # fmt: skip


def _is_calendar(match: ColumnMatch) -> bool:
    return bool(meaningful_stems(match)) and meaningful_stems(match) <= CALENDAR


def _is_code(match: ColumnMatch) -> bool:
    return tokens(match.name)[-1:] == ("code",) and match.column.distinct <= FEW_CODES


def _named_like_key(match: ColumnMatch) -> bool:
    parts = tokens(match.name)
    if len(parts) == 0 or match.column.distinct <= 2:  # noqa: PLR2004 - a yes/no column is no key
        return parts in {("id",), ("key",)}
    head = parts[-1]
    if head in CODE_PARTS and match.column.distinct <= FEW_CODES:
        return False
    return (len(parts) > 1 and head in KEY_PARTS) or parts in {("id",), ("key",)} or head.endswith(COMPOUNDS)


def _zero_or_one(column: Column) -> bool:
    ends = (column.minimum, column.maximum)
    return column.distinct == 2 and ends == (0, 1) and bool not in map(type, ends)  # noqa: PLR2004 - 0 and 1


def true_value(match: ColumnMatch) -> Scalar | None:
    """Return the value that means yes in a flag or two-valued category; None if there is none."""
    numeric = any(type(entry.value) is int for entry in match.column.values)
    if _zero_or_one(match.column) or (match.column.type == "boolean" and numeric):
        return 1
    if match.column.type == "boolean":
        return True
    values = {str(value.value).casefold(): value.value for value in match.column.values}
    if len(values) == 2 and values.keys() <= TRUE_VALUES | FALSE_VALUES:  # noqa: PLR2004 - yes and no
        return next((value for word, value in values.items() if word in TRUE_VALUES), None)
    return None


def entity_meaning(match: ColumnMatch) -> str | None:
    """Return the kind of entity that a key's or category's name stands for."""
    return next((group for group in ENTITY_CONCEPTS if group in match.meanings), None)


def meaningful_stems(match: ColumnMatch) -> frozenset[str]:
    """Return the stems of the name that say what the column is about."""
    return frozenset(meaningful_parts(match.stems))


def has_meaning(match: ColumnMatch, *groups: str) -> bool:
    """Check whether the name has a word of one of the meaning groups."""
    return any(word in CONCEPTS[group] for word in match.stems for group in groups)


def named_value(match: ColumnMatch, sentence: Phrase) -> Scalar | None:
    """Return the value of a category of which the sentence has every word."""
    for value, parts in match.values:
        if parts and all(len(part) > 2 and part in sentence for part in parts):  # noqa: PLR2004 - "at" is no place
            return value
    return None
