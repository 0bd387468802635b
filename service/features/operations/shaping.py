"""More of one row's values: functions of a number, products of powers, weighted sums, pieces and terms of a text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta

from service.features.operations.across import numbered_parts
from service.features.operations.expression import Expression, Part, Rows
from service.features.operations.groups import GroupOperation
from service.features.operations.parameters import FreeText, NumberColumn, Term, TextColumn
from service.features.operations.places import Latitude, Longitude, distance
from service.features.operations.text import RARE_ROWS
from service.features.operations.values import ARITHMETIC, ValueOperation

Finite = Annotated[float, Meta(ge=-1e12, le=1e12)]
OneOrMore = Annotated[tuple[NumberColumn, ...], Meta(min_length=1, max_length=20)]
Coefficients = Annotated[tuple[Finite, ...], Meta(min_length=1, max_length=20)]
FUNCTIONS = {
    "reciprocal": "1 / NULLIF(:x, 0)",
    "square": ":x * :x",
    "cube": ":x * :x * :x",
    "log2": "CASE WHEN :x > 0 THEN LN(:x) / LN(2) END",
    "log10": "CASE WHEN :x > 0 THEN LN(:x) / LN(10) END",
    "ln": "CASE WHEN :x > 0 THEN LN(:x) END",
    "exponential": "CASE WHEN :x < 700 THEN EXP(:x) END",
    "logit": "CASE WHEN :x > 0 AND :x < 1 THEN LN(:x / (1 - :x)) END",
    "sign": "CAST(SIGN(:x) AS DOUBLE)",
    "floor": "FLOOR(:x)",
    "ceiling": "CEIL(:x)",
    "fraction": ":x - FLOOR(:x)",
    "sine": "CASE WHEN ABS(:x) <= 1000000000 THEN SIN(RADIANS(:x)) END",
    "cosine": "CASE WHEN ABS(:x) <= 1000000000 THEN COS(RADIANS(:x)) END",
}


class NumericFunction(ValueOperation, frozen=True, tag="numeric_function"):
    """A function of a numeric column: reciprocal, powers, logarithms, exponential, logit, sign, rounding, sine."""

    column: NumberColumn
    function: Literal[
        "reciprocal", "square", "cube", "log2", "log10", "ln", "exponential", "logit", "sign", "floor", "ceiling",
        "fraction", "sine", "cosine",
    ]  # fmt: skip

    gives = "number"
    nulls = (
        "where the column is null or outside the function's domain; an exponential, from 700 on; a sine or cosine (of "
        "degrees), beyond 10⁹"
    )
    formula = "1/x; x²; x³; log₂ x; log₁₀ x; ln x; eˣ; ln(x / (1 - x)); -1, 0 or 1; ⌊x⌋; ⌈x⌉; x - ⌊x⌋; sin x°; cos x°"
    source = ARITHMETIC
    example = '{"column": "amount", "function": "log10"}'

    def compile(self, rows: Rows) -> Expression:
        """Apply the function."""
        return rows.sql(FUNCTIONS[self.function], x=rows.number(self.column))


class Remainder(ValueOperation, frozen=True, tag="remainder"):
    """What is left of a numeric column after whole multiples of a divisor (cents of a price), 0 … divisor."""

    column: NumberColumn
    divisor: Annotated[float, Meta(gt=0, le=1e12)]

    gives = "number"
    nulls = "where the column is null"
    formula = "x - divisor · ⌊x / divisor⌋"
    source = "Python's `%`"
    example = '{"column": "amount", "divisor": 10}'

    def compile(self, rows: Rows) -> Expression:
        """Subtract the multiples."""
        return rows.sql(":x - :d * FLOOR(:x / :d)", x=rows.number(self.column), d=self.divisor)


class RelativeDifference(ValueOperation, frozen=True, tag="relative_difference"):
    """(left - right) / |right|, row by row: the change from one column to another as a share."""

    left: NumberColumn
    right: NumberColumn

    gives = "number"
    nulls = "where either column is null, or right is 0"
    formula = "(left - right) / |right|"
    source = ARITHMETIC
    example = '{"left": "amount", "right": "items"}'

    def compile(self, rows: Rows) -> Expression:
        """Divide the difference."""
        return rows.sql("(:x - :y) / NULLIF(ABS(:y), 0)", x=rows.number(self.left), y=rows.number(self.right))


class PowerProduct(ValueOperation, frozen=True, tag="power_product"):
    """Product of columns raised to powers, times a factor (body mass index: weight to 1, height to -2)."""

    columns: OneOrMore
    powers: Annotated[tuple[Annotated[int, Meta(ge=-4, le=4)], ...], Meta(min_length=1, max_length=20)]
    factor: Finite = 1.0

    gives = "number"
    nulls = "where any of the columns is null, or a divisor is 0"
    formula = "factor · Π xᵢ^pᵢ"
    source = ARITHMETIC
    example = '{"columns": ["amount", "items"], "powers": [1, -2]}'

    def faults(self) -> Iterator[tuple[str, str]]:
        """As many powers as columns."""
        if len(self.powers) != len(self.columns):
            yield "powers", "give one power for each column"

    def compile(self, rows: Rows) -> Expression:
        """Multiply the powers."""
        parts, names = numbered_parts([rows.number(name) for name in self.columns])
        bases = [name if power >= 0 else f"NULLIF({name}, 0)" for name, power in zip(names, self.powers, strict=True)]
        factors = [f"POWER({base}, {power})" for base, power in zip(bases, self.powers, strict=True)]
        return rows.sql(" * ".join([":factor", *factors]), **parts, factor=self.factor)


class WeightedSum(ValueOperation, frozen=True, tag="weighted_sum"):
    """Sum of columns, each times a weight, plus a constant (a score card)."""

    columns: OneOrMore
    weights: Coefficients
    constant: Finite = 0.0

    gives = "number"
    nulls = "where any of the columns is null"
    formula = "constant + Σ wᵢ xᵢ"
    source = ARITHMETIC
    example = '{"columns": ["amount", "items"], "weights": [1, -2.5], "constant": 10}'

    def faults(self) -> Iterator[tuple[str, str]]:
        """As many weights as columns."""
        if len(self.weights) != len(self.columns):
            yield "weights", "give one weight for each column"

    def compile(self, rows: Rows) -> Expression:
        """Add the products."""
        parts, names = numbered_parts([rows.number(name) for name in self.columns])
        weights: dict[str, Part] = {f"w{place}": weight for place, weight in enumerate(self.weights)}
        terms = [f"{name} * :{weight}" for name, weight in zip(names, weights, strict=True)]
        return rows.sql(" + ".join([":constant", *terms]), **parts, **weights, constant=self.constant)


class WordStatistic(ValueOperation, frozen=True, tag="word_statistic"):
    """A figure of a text's words: distinct ones, their share, the mean and the greatest length."""

    column: TextColumn
    figure: Literal["distinct", "distinct_share", "mean_length", "longest"]

    gives = "number"
    nulls = "where the column is null; a share or mean where the text has no word"
    formula = (
        "words (runs of non-space) that differ, letter case aside; those / words; characters of words / words; max"
    )
    source = "lexical diversity (type-token ratio)"
    example = '{"column": "note", "figure": "distinct_share"}'

    def compile(self, rows: Rows) -> Expression:
        """Measure the words."""
        texts = {
            "distinct": "DISTINCT_WORD_COUNT(:x)",
            "distinct_share": "DISTINCT_WORD_COUNT(:x) / NULLIF(WORD_COUNT(:x), 0)",
            "mean_length": "(TEXT_LENGTH(:x) - SPACE_COUNT(:x)) / NULLIF(WORD_COUNT(:x), 0)",
            "longest": "LONGEST_WORD(:x)",
        }
        text = f"CASE WHEN NOT :x IS NULL THEN CAST({texts[self.figure]} AS DOUBLE) END"
        return rows.sql(text, x=rows.text(self.column))


class TermsCount(ValueOperation, frozen=True, tag="terms_count"):
    """How often the text holds any of some terms, or how many of them it holds (a lexicon), letter case aside."""

    column: TextColumn
    terms: Annotated[tuple[Term, ...], Meta(min_length=2, max_length=50)]
    figure: Literal["occurrences", "distinct"] = "occurrences"

    gives = "integer"
    nulls = "where the column is null"
    formula = "Σ over the terms of their occurrences without overlaps; terms with at least one"
    source = "dictionary-based text scoring"
    example = '{"column": "note", "terms": ["gift", "present"]}'

    def compile(self, rows: Rows) -> Expression:
        """Count each term."""
        x = rows.sql("LOWER(:x)", x=rows.text(self.column))
        terms = [term.lower() for term in self.terms]
        names: dict[str, Part] = {f"t{place}": term for place, term in enumerate(terms)}
        how = "(TEXT_LENGTH(:x) - TEXT_LENGTH(REPLACE(:x, :{0}, ''))) / {1}"
        if self.figure == "distinct":
            how = "CASE WHEN REPLACE(:x, :{0}, '') <> :x THEN 1 ELSE 0 END"
        counts = [how.format(name, len(term)) for name, term in zip(names, terms, strict=True)]
        return rows.sql(f"CASE WHEN NOT :x IS NULL THEN CAST({' + '.join(counts)} AS BIGINT) END", x=x, **names)


class TextPiece(GroupOperation, frozen=True, tag="text_piece"):
    """A piece of a text where at least five rows share it, else `other`: first or last word or characters."""

    column: TextColumn
    piece: Literal["first_word", "last_word", "first_characters", "last_characters"]
    characters: Annotated[int, Meta(ge=1, le=20)] = 1

    gives = "string"
    fits = "categories"
    cost = "sort"
    masks_rare = True
    nulls = "where the column is null or the piece is empty"
    formula = (
        "the first or last run of non-space, or so many characters; rare pieces, which could name a person, are other "
        "(not in computed columns)"
    )
    source = "prefixes of codes (a postcode's area, a cabin's deck)"
    example = '{"column": "note", "piece": "first_characters", "characters": 2}'

    def compile(self, rows: Rows) -> Expression:
        """Take the piece unless it is rare."""
        return shared(rows, self.intermediate(rows))

    def intermediate(self, rows: Rows) -> Expression:
        """Take the piece."""
        texts = {
            "first_word": "FIRST_WORD(:x)",
            "last_word": "LAST_WORD(:x)",
            "first_characters": "SUBSTRING(:x, 1, :n)",
            "last_characters": "SUBSTRING(:x, GREATEST(TEXT_LENGTH(:x) - :n + 1, 1), :n)",
        }
        return rows.sql(f"NULLIF({texts[self.piece]}, '')", x=rows.text(self.column), n=self.characters)


class TextField(GroupOperation, frozen=True, tag="text_field"):
    """The nth field of a text between separators where at least five rows share it, else `other`."""

    column: TextColumn
    separator: Annotated[str, Meta(min_length=1, max_length=10), FreeText()]
    n: Annotated[int, Meta(ge=1, le=50)] = 1

    gives = "string"
    fits = "categories"
    cost = "sort"
    masks_rare = True
    nulls = "where the column is null, or the field is missing or empty"
    formula = (
        "the nth part of the text cut at each separator, trimmed of blanks; parts of fewer than five rows are `other` "
        "(not in computed columns)"
    )
    source = "SQL's SPLIT_PART"
    example = '{"column": "note", "separator": ",", "n": 1}'

    def compile(self, rows: Rows) -> Expression:
        """Take the field unless it is rare."""
        return shared(rows, self.intermediate(rows))

    def intermediate(self, rows: Rows) -> Expression:
        """Take the field."""
        text = "NULLIF(TRIM(SPLIT_PART(:x, :separator, :n)), '')"
        return rows.sql(text, x=rows.text(self.column), separator=self.separator, n=self.n)


def shared(rows: Rows, value: Expression) -> Expression:
    """The value, or `other` where fewer than five rows share it."""
    known = rows.derived(value)
    sharing = "CASE WHEN COUNT(*) OVER (PARTITION BY :d) >= :rare THEN :d ELSE 'other' END"
    return rows.sql(f"CASE WHEN NOT :d IS NULL THEN {sharing} END", d=known, rare=RARE_ROWS)


class DistanceToNearest(ValueOperation, frozen=True, tag="distance_to_nearest"):
    """Kilometres along the surface from a place, given by two columns, to the nearest of some fixed points."""

    latitude: NumberColumn
    longitude: NumberColumn
    latitudes: Annotated[tuple[Latitude, ...], Meta(min_length=2, max_length=50)]
    longitudes: Annotated[tuple[Longitude, ...], Meta(min_length=2, max_length=50)]

    gives = "number"
    nulls = "where either column is null"
    formula = "the least great circle to the points"
    source = "the haversine formula on a sphere of 6371.0088 km (IUGG)"
    example = '{"latitude": "amount", "longitude": "items", "latitudes": [52.37, 50.85], "longitudes": [4.9, 4.35]}'

    def faults(self) -> Iterator[tuple[str, str]]:
        """As many longitudes as latitudes."""
        if len(self.latitudes) != len(self.longitudes):
            yield "longitudes", "give one longitude for each latitude"

    def compile(self, rows: Rows) -> Expression:
        """Take the least distance."""
        here = rows.number(self.latitude), rows.number(self.longitude)
        points = zip(self.latitudes, self.longitudes, strict=True)
        parts, names = numbered_parts([distance(rows, here, point) for point in points])
        return rows.sql(f"LEAST({', '.join(names)})", **parts)


class PlaceDensity(GroupOperation, frozen=True, tag="grid_count"):
    """Rows of the dataset in the row's cell of a grid of latitudes and longitudes."""

    latitude: NumberColumn
    longitude: NumberColumn
    degrees: Annotated[float, Meta(ge=0.001, le=45)] = 1.0

    gives = "integer"
    fits = "groups"
    cost = "sort"
    nulls = "where either column is null"
    formula = "rows with the same ⌊latitude / degrees⌋ and ⌊longitude / degrees⌋"
    source = "an equal-angle grid"
    example = '{"latitude": "amount", "longitude": "items", "degrees": 0.5}'

    def compile(self, rows: Rows) -> Expression:
        """Count the cell."""
        text = "FLOOR(:angle / :step)"
        south, west = (
            rows.derived(rows.sql(text, angle=rows.number(name), step=self.degrees))
            for name in (self.latitude, self.longitude)
        )
        counted = "COUNT(*) OVER (PARTITION BY :south, :west)"
        return rows.sql(
            f"CASE WHEN NOT :south IS NULL AND NOT :west IS NULL THEN {counted} END", south=south, west=west
        )
