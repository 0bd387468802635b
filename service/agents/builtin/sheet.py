"""The columns of a prompt, sorted by what can be done with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from service.agents.builtin.candidates import slug
from service.agents.builtin.exclusions import unwanted
from service.agents.builtin.leaks import giveaways
from service.agents.builtin.reading import Reading
from service.agents.prompts import Column, Request
from service.agents.words import CONCEPTS, concepts, mention, stems, telling_parts, tokens
from service.features.operations import Scalar

KEY_PARTS = frozenset(("id", "uuid", "guid", "key", "pk", "sk", "code", "no", "number", "nr", "hash", "ref"))
"""Last parts of a key's name."""
CODE_PARTS = frozenset(("code", "no", "number", "nr"))
FEW_CODES = 50
"""A code of so few values is a label: a diagnosis, a status, a zone."""
COMPOUNDS = ("nr", "nummer", "nummern")
"""Endings of a key's name in languages that write compounds as one word: Kundennr, ordernummer."""
CALENDAR = frozenset(stems("year month quarter week day hour weekday"))
"""Whole numbers of such a name are labels, not measures."""
ENTITY_CONCEPTS = ("user", "machine", "store", "item", "session")
"""Things that rows are about, in the order in which a planner guesses when the sentence names none."""
MAX_CATEGORIES = 1_000
"""Distinct values over which a column is no grouping."""
REPEATS = 0.8
"""A key repeats when it has at most this share of distinct values."""
TRUE_VALUES = frozenset(("true", "yes", "y", "t", "1"))
FALSE_VALUES = frozenset(("false", "no", "n", "f", "0"))


class Seen(Struct, frozen=True):
    """A column, its name in stems, and how plainly the sentence speaks of it (0 … 4)."""

    column: Column
    stems: tuple[str, ...]
    spoken: int
    slug: str
    """Its name as part of a feature's name."""

    @property
    def name(self) -> str:
        """As the dataset spells it."""
        return self.column.name

    @property
    def meanings(self) -> frozenset[str]:
        """The groups of meaning of its name's words."""
        return frozenset(group for word in self.stems for group in concepts(word))


class Sheet(Struct, frozen=True):
    """Columns by their use; the target, constants, empty and personal columns serve nothing but as an asked-for key."""

    row_count: int
    all: tuple[Seen, ...]
    numbers: tuple[Seen, ...]
    flags: tuple[Seen, ...]
    """Boolean columns and whole numbers that are 0 or 1."""
    categories: tuple[Seen, ...]
    """Categorical columns, booleans not among them."""
    texts: tuple[Seen, ...]
    times: tuple[Seen, ...]
    keys: tuple[Seen, ...]
    """Identifiers, and what is named like one."""
    unwelcome: tuple[str, ...] = ()
    """Columns that the sentence does not want."""
    leaking: tuple[str, ...] = ()
    """Columns that give the target away."""

    def find(self, name: str | None) -> Seen | None:
        """The column of that exact name."""
        return next((seen for seen in self.all if seen.name == name), None)

    @property
    def usable(self) -> tuple[Seen, ...]:
        """Every column that a feature may read."""
        return (*self.numbers, *self.flags, *self.categories, *self.texts, *self.times, *self.keys)

    def repeats(self, seen: Seen) -> bool:
        """Whether several rows share a value, as a rule."""
        filled = self.row_count * (1 - seen.column.missing)
        return 1 < seen.column.distinct <= REPEATS * filled


def lay_out(request: Request, reading: Reading) -> Sheet:
    """Sort the columns of a request."""
    target = request.options.target or _predicted(request.columns, reading)
    unwelcome = _unwelcome(request, reading)
    leaking = _leaking(request, target)
    barred = {target, *unwelcome, *leaking}
    spoken = _spoken(request.columns, reading)
    everything = tuple(
        Seen(column, stems(column.name), spoken[column.name], slug(column.name, position))
        for position, column in enumerate(request.columns)
    )
    usable = [seen for seen in everything if seen.name not in barred and _informative(seen.column)]
    kinds = _by_kind(usable)
    return Sheet(
        row_count=request.row_count,
        all=everything,
        numbers=kinds["number"],
        flags=kinds["flag"],
        categories=kinds["category"],
        texts=kinds["text"],
        times=kinds["time"],
        keys=kinds["key"],
        unwelcome=tuple(seen.name for seen in everything if seen.name in unwelcome),
        leaking=tuple(seen.name for seen in everything if seen.name in leaking),
    )


def _unwelcome(request: Request, reading: Reading) -> frozenset[str]:
    """What the sentence does not want read; a key is no measure, and what the client fixed stands."""
    named = [column.name for column in request.columns if column.type != "identifier"]
    return unwanted(named, reading.excluded) - {request.options.entity, request.options.time}


def _leaking(request: Request, target: str | None) -> frozenset[str]:
    """What gives the target away, but for what the client fixed."""
    predicted = next((column for column in request.columns if column.name == target), None)
    if predicted is None:
        return frozenset()
    return giveaways(request.columns, predicted) - {request.options.entity, request.options.time}


def _spoken(columns: Iterable[Column], reading: Reading) -> dict[str, int]:
    """How plainly each column is spoken of: a word that belongs to one column's whole name names no other by halves."""
    names = {column.name: stems(column.name) for column in columns}
    strengths: dict[str, int] = {name: mention(parts, reading.words) for name, parts in names.items()}
    keys = {column.name for column in columns if column.type == "identifier"}
    exact = {tuple(telling_parts(names[name])) for name, strength in strengths.items() if strength == 4}  # noqa: PLR2004 - whole names
    for name, parts in names.items():
        if strengths[name] == 3 and tuple(telling_parts(parts)) in exact:  # noqa: PLR2004 - pressure_11 beside pressure_1
            strengths[name] = 0
    whole = {
        part
        for name, parts in names.items()
        if strengths[name] >= 3 and name not in keys  # noqa: PLR2004 - all telling parts
        for part in parts
    }
    return {
        name: 0
        if strength == 2 and {part for part in names[name] if part in reading.words} <= whole  # noqa: PLR2004 - a part
        else strength
        for name, strength in strengths.items()
    }


def _predicted(columns: Iterable[Column], reading: Reading) -> str | None:
    """The column that the sentence wants predicted: no feature may read it, even when no option says so."""
    if not reading.predicted:
        return None
    return next((column.name for column in columns if mention(stems(column.name), reading.predicted) >= 3), None)  # noqa: PLR2004 - all telling parts of the name


def _informative(column: Column) -> bool:
    return column.distinct > 1 and column.missing < 1 and not column.personal


def _by_kind(usable: Sequence[Seen]) -> Mapping[str, tuple[Seen, ...]]:
    kinds: dict[str, list[Seen]] = {
        "number": [], "flag": [], "category": [], "text": [], "time": [], "key": [], "none": [],
    }  # fmt: skip
    for seen in usable:
        kinds[_kind(seen)].append(seen)
    return {kind: tuple(sorted(members, key=lambda seen: -seen.spoken)) for kind, members in kinds.items()}


def _kind(seen: Seen) -> str:
    type_ = seen.column.type
    if type_ == "identifier" or (type_ in {"integer", "categorical"} and _named_like_key(seen)):
        return "key"
    if type_ == "boolean" or (type_ == "integer" and _zero_or_one(seen.column)):
        return "flag"
    if type_ == "integer" and (_is_calendar(seen) or _is_code(seen)):
        return "category"
    return {
        "numeric": "number", "integer": "number", "categorical": "category", "datetime": "time", "text": "text",
    }[type_]  # fmt: skip


def _is_calendar(seen: Seen) -> bool:
    return bool(telling(seen)) and telling(seen) <= CALENDAR


def _is_code(seen: Seen) -> bool:
    return tokens(seen.name)[-1:] == ("code",) and seen.column.distinct <= FEW_CODES


def _named_like_key(seen: Seen) -> bool:
    parts = tokens(seen.name)
    if len(parts) == 0 or seen.column.distinct <= 2:  # noqa: PLR2004 - a yes/no column is no key
        return parts in {("id",), ("key",)}
    head = parts[-1]
    if head in CODE_PARTS and seen.column.distinct <= FEW_CODES:
        return False
    return (len(parts) > 1 and head in KEY_PARTS) or parts in {("id",), ("key",)} or head.endswith(COMPOUNDS)


def _zero_or_one(column: Column) -> bool:
    ends = (column.minimum, column.maximum)
    return column.distinct == 2 and ends == (0, 1) and bool not in map(type, ends)  # noqa: PLR2004 - 0 and 1


def truth(seen: Seen) -> Scalar | None:
    """The value that means yes in a flag or a two-valued category, as the column holds it; else None."""
    numeric = any(type(entry.value) is int for entry in seen.column.values)
    if _zero_or_one(seen.column) or (seen.column.type == "boolean" and numeric):
        return 1
    if seen.column.type == "boolean":
        return True
    values = {str(value.value).casefold(): value.value for value in seen.column.values}
    if len(values) == 2 and values.keys() <= TRUE_VALUES | FALSE_VALUES:  # noqa: PLR2004 - yes and no
        return next((value for word, value in values.items() if word in TRUE_VALUES), None)
    return None


def entity_meaning(seen: Seen) -> str | None:
    """Which kind of thing a key's or category's name stands for."""
    return next((group for group in ENTITY_CONCEPTS if group in seen.meanings), None)


def telling(seen: Seen) -> frozenset[str]:
    """The parts of the name that say what the column is about."""
    return frozenset(telling_parts(seen.stems))


def means(seen: Seen, *groups: str) -> bool:
    """Whether the name has a word of one of the groups of meaning."""
    return any(word in CONCEPTS[group] for word in seen.stems for group in groups)


def named_value(seen: Seen, words: Sequence[str]) -> Scalar | None:
    """The value of a category that the sentence mentions by all of its words."""
    spoken = frozenset(words)
    for value in seen.column.values:
        parts = stems(str(value.value))
        if parts and all(len(part) > 2 and part in spoken for part in parts):  # noqa: PLR2004 - "at" is no place
            return value.value
    return None
