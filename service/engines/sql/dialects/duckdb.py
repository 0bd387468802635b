"""DuckDB's spelling of the primitives."""

from __future__ import annotations

from typing import ClassVar

from sqlglot.dialects.duckdb import DuckDB

from service.engines.sql.dialects.spelling import Spelling
from service.engines.sql.template import Primitive

IN_ORDER = "CAST(:instant AS HUGEINT) * 1099511627776 + :row"
"""Orders by time, then row id, in one number: datasets have fewer than 2^40 rows."""
IN_SPAN = "PARTITION BY :key ORDER BY :instant RANGE BETWEEN :span PRECEDING AND 1 PRECEDING"
URL_HOST = r"^[a-z][a-z0-9+.-]*://(?:[^/?#@]*@)?(?:www\.)?(\[[^\]/?#]*\]|[^/?#:@]+)"
PATH = r"REGEXP_REPLACE(REGEXP_REPLACE(:x, '[?#].*$', ''), '^[A-Za-z][A-Za-z0-9+.-]*://[^/]*', '')"
TRIGRAMS = "LIST_TRANSFORM(RANGE(1, LENGTH(:{0}) - 1), i -> SUBSTR(:{0}, i, 3))"

SPELLING = Spelling(
    DuckDB,
    {
        "EPOCH_US": "EPOCH_US(:t)",
        "HOUR_OF_DAY": "EXTRACT(HOUR FROM :t)",
        "ISO_WEEKDAY": "ISODOW(:t)",
        "DAY_OF_MONTH": "EXTRACT(DAY FROM :t)",
        "DAY_OF_YEAR": "EXTRACT(DOY FROM :t)",
        "ISO_WEEK": "EXTRACT(WEEK FROM :t)",
        "MONTH_OF_YEAR": "EXTRACT(MONTH FROM :t)",
        "DAYS_IN_MONTH": "EXTRACT(DAY FROM LAST_DAY(:t))",
        "QUARTER_OF_YEAR": "EXTRACT(QUARTER FROM :t)",
        "YEAR_OF": "EXTRACT(YEAR FROM :t)",
        "DATE_OF": "CAST(:t AS DATE)",
        "IS_FINITE": "ISFINITE(:x)",
        "MEDIAN": "MEDIAN(:x)",
        "QUANTILE": "QUANTILE_CONT(:x, :q)",
        "SLOPE": "REGR_SLOPE(:y, :x)",
        "FIRST_BY": f"ARG_MIN(:x, {IN_ORDER})",
        "LAST_BY": f"ARG_MAX(:x, {IN_ORDER})",
        "TEXT_LENGTH": "LENGTH(:x)",
        "WORD_COUNT": r"LENGTH(REGEXP_REPLACE(REGEXP_REPLACE(:x, '\S+', 'w', 'g'), '\s+', '', 'g'))",
        "CONTAINS_TEXT": "CONTAINS(LOWER(:x), LOWER(:term))",
        "MATCHES_TEXT": "REGEXP_MATCHES(LOWER(:x), :pattern)",
        "NTH_NUMBER": r"TRY_CAST(LIST_EXTRACT(REGEXP_EXTRACT_ALL(:x, '[0-9]+(?:\.[0-9]+)?'), :n) AS DOUBLE)",
        "EMOJI_COUNT": r"LENGTH(REGEXP_REPLACE(:x, '[^\x{2600}-\x{27BF}\x{1F300}-\x{1FAFF}]', '', 'g'))",
        "DIGIT_COUNT": "LENGTH(REGEXP_REPLACE(:x, '[^0-9]', '', 'g'))",
        "UPPERCASE_COUNT": r"LENGTH(REGEXP_REPLACE(:x, '[^\p{Lu}]', '', 'g'))",
        "PUNCTUATION_COUNT": r"LENGTH(REGEXP_REPLACE(:x, '[^\p{P}\p{S}]', '', 'g'))",
        "SPACE_COUNT": r"LENGTH(REGEXP_REPLACE(:x, '[^\s]', '', 'g'))",
        "URL_HOST": f"REGEXP_EXTRACT(LOWER(:x), '{URL_HOST}', 1)",
        "PATH_DEPTH": f"LENGTH(REGEXP_REPLACE(REGEXP_REPLACE({PATH}, '[^/]+', 's', 'g'), '/', '', 'g'))",
        "EMAIL_DOMAIN": r"REGEXP_EXTRACT(LOWER(:x), '^[^\s@]+@(?:[^\s@]*@)?([^\s@]+\.[^\s@]+)$', 1)",
        "TRIGRAM_SIMILARITY": (
            f"LEN(LIST_INTERSECT({TRIGRAMS.format('a')}, {TRIGRAMS.format('b')})) / "
            f"LEN(LIST_DISTINCT(LIST_CONCAT({TRIGRAMS.format('a')}, {TRIGRAMS.format('b')})))"
        ),
        "DISTINCT_WORD_COUNT": r"LEN(LIST_DISTINCT(REGEXP_EXTRACT_ALL(LOWER(:x), '\S+')))",
        "LONGEST_WORD": r"COALESCE(LIST_MAX(LIST_TRANSFORM(REGEXP_EXTRACT_ALL(:x, '\S+'), w -> LENGTH(w))), 0)",
        "FIRST_WORD": r"REGEXP_EXTRACT(:x, '^\s*(\S+)', 1)",
        "LAST_WORD": r"REGEXP_EXTRACT(:x, '(\S+)\s*$', 1)",
        "DISTINCT_IN_SPAN": f"COUNT(DISTINCT :x) OVER ({IN_SPAN})",
    },
)


class DuckDBDialect(DuckDB):
    """DuckDB that knows the primitives."""

    class Generator(DuckDB.Generator):
        """Writes primitives in DuckDB's words."""

        TRANSFORMS: ClassVar = {**DuckDB.Generator.TRANSFORMS, Primitive: SPELLING.write}
