r"""Spark SQL's spelling of the primitives, from Spark 4.0 on with `spark.sql.ansi.enabled`.

Patterns are Java's; backslashes in Spark's literals are written twice.
"""

from __future__ import annotations

from typing import ClassVar

from sqlglot.dialects.spark import Spark

from service.engines.sql.dialects.spelling import Spelling
from service.engines.sql.template import Primitive

IN_SPAN = "PARTITION BY :key ORDER BY :instant RANGE BETWEEN :span PRECEDING AND 1 PRECEDING"
URL_HOST = r"^[a-z][a-z0-9+.-]*://(?:[^/?#@]*@)?(?:www\\.)?(\\[[^\\]/?#]*\\]|[^/?#:@]+)"
PATH = r"REGEXP_REPLACE(REGEXP_REPLACE(:x, '[?#].*$', ''), '^[A-Za-z][A-Za-z0-9+.-]*://[^/]*', '')"
TRIGRAMS = "TRANSFORM(SEQUENCE(1, CHAR_LENGTH(:{0}) - 2), i -> SUBSTR(:{0}, i, 3))"

SPELLING = Spelling(
    Spark,
    {
        "EPOCH_US": "UNIX_MICROS(:t)",
        "HOUR_OF_DAY": "EXTRACT(HOUR FROM :t)",
        "ISO_WEEKDAY": "WEEKDAY(:t) + 1",
        "DAY_OF_MONTH": "EXTRACT(DAY FROM :t)",
        "DAY_OF_YEAR": "EXTRACT(DOY FROM :t)",
        "ISO_WEEK": "EXTRACT(WEEK FROM :t)",
        "MONTH_OF_YEAR": "EXTRACT(MONTH FROM :t)",
        "DAYS_IN_MONTH": "EXTRACT(DAY FROM LAST_DAY(:t))",
        "QUARTER_OF_YEAR": "EXTRACT(QUARTER FROM :t)",
        "YEAR_OF": "EXTRACT(YEAR FROM :t)",
        "DATE_OF": "CAST(:t AS DATE)",
        "IS_FINITE": "ABS(:x) < CAST('Infinity' AS DOUBLE)",  # NaN is above infinity
        "MEDIAN": "MEDIAN(:x)",
        "QUANTILE": "PERCENTILE(:x, :q)",
        "SLOPE": "REGR_SLOPE(:y, :x)",
        "FIRST_BY": "MIN_BY(:x, STRUCT(:instant, :row))",
        "LAST_BY": "MAX_BY(:x, STRUCT(:instant, :row))",
        "TEXT_LENGTH": "CHAR_LENGTH(:x)",
        "WORD_COUNT": r"CHAR_LENGTH(REGEXP_REPLACE(REGEXP_REPLACE(:x, '\\S+', 'w'), '\\s+', ''))",
        "CONTAINS_TEXT": "CONTAINS(LOWER(:x), LOWER(:term))",
        "MATCHES_TEXT": "REGEXP_LIKE(LOWER(:x), :pattern)",
        "NTH_NUMBER": r"CAST(TRY_ELEMENT_AT(REGEXP_EXTRACT_ALL(:x, '[0-9]+(?:\\.[0-9]+)?', 0), :n) AS DOUBLE)",
        "EMOJI_COUNT": r"CHAR_LENGTH(REGEXP_REPLACE(:x, '[^\\x{2600}-\\x{27BF}\\x{1F300}-\\x{1FAFF}]', ''))",
        "DIGIT_COUNT": "CHAR_LENGTH(REGEXP_REPLACE(:x, '[^0-9]', ''))",
        "UPPERCASE_COUNT": r"CHAR_LENGTH(REGEXP_REPLACE(:x, '[^\\p{Lu}]', ''))",
        "PUNCTUATION_COUNT": r"CHAR_LENGTH(REGEXP_REPLACE(:x, '[^\\p{P}\\p{S}]', ''))",
        "SPACE_COUNT": r"CHAR_LENGTH(REGEXP_REPLACE(:x, '[^\\s]', ''))",
        "URL_HOST": f"REGEXP_EXTRACT(LOWER(:x), '{URL_HOST}', 1)",
        "PATH_DEPTH": f"CHAR_LENGTH(REGEXP_REPLACE(REGEXP_REPLACE({PATH}, '[^/]+', 's'), '/', ''))",
        "EMAIL_DOMAIN": (r"REGEXP_EXTRACT(LOWER(:x), '^[^\\s@]+@(?:[^\\s@]*@)?([^\\s@]+\\.[^\\s@]+)$', 1)"),
        "TRIGRAM_SIMILARITY": (
            f"SIZE(ARRAY_INTERSECT({TRIGRAMS.format('a')}, {TRIGRAMS.format('b')})) / "
            f"SIZE(ARRAY_UNION({TRIGRAMS.format('a')}, {TRIGRAMS.format('b')}))"
        ),
        "DISTINCT_WORD_COUNT": r"SIZE(ARRAY_DISTINCT(REGEXP_EXTRACT_ALL(LOWER(:x), '\\S+', 0)))",
        "LONGEST_WORD": (r"COALESCE(ARRAY_MAX(TRANSFORM(REGEXP_EXTRACT_ALL(:x, '\\S+', 0), w -> CHAR_LENGTH(w))), 0)"),
        "FIRST_WORD": r"REGEXP_EXTRACT(:x, '^\\s*(\\S+)', 1)",
        "LAST_WORD": r"REGEXP_EXTRACT(:x, '(\\S+)\\s*$', 1)",
        "DISTINCT_IN_SPAN": f"SIZE(COLLECT_SET(:x) OVER ({IN_SPAN}))",
    },
)


class SparkDialect(Spark):
    """Spark that knows the primitives."""

    class Generator(Spark.Generator):
        """Writes primitives in Spark's words."""

        TRANSFORMS: ClassVar = {**Spark.Generator.TRANSFORMS, Primitive: SPELLING.write}
