"""How an entity's rows spread over the categories of a column."""

from __future__ import annotations

from service.features.operations.expression import Entities, Expression
from service.features.operations.operation import EntityOperation
from service.features.operations.parameters import CategoryColumn, NumberColumn

NO_CATEGORY = "where no row of the entity has a category"


class CategoryOperation(EntityOperation, frozen=True):
    """Base of what is read from the counts of an entity's categories."""

    cost = "sort"
    publishes_values = False


class MostFrequent(CategoryOperation, frozen=True, tag="most_frequent"):
    """The entity's most frequent category; ties go to the smallest value."""

    column: CategoryColumn

    gives = None
    publishes_values = True
    nulls = NO_CATEGORY
    formula = "the category with the most rows, the smallest of equals"
    source = "the statistical mode"
    example = '{"column": "country"}'

    def compile(self, entities: Entities) -> Expression:
        """Take the mode."""
        return entities.most_frequent(self.column)


class TopShare(CategoryOperation, frozen=True, tag="top_share"):
    """Share of the entity's rows that hold its most frequent category."""

    column: CategoryColumn

    gives = "number"
    nulls = NO_CATEGORY
    formula = "rows of the most frequent category / rows"
    source = "the Berger-Parker index (1970), over all rows, those without a category too"
    example = '{"column": "country"}'

    def compile(self, entities: Entities) -> Expression:
        """Divide the largest count by the rows."""
        top = entities.categories(self.column, "MAX(:n)")
        return entities.sql(":top / :rows", top=top, rows=entities.rows("COUNT(*)"))


class Entropy(CategoryOperation, frozen=True, tag="entropy"):
    """Shannon entropy, in bits, of the column's categories within the entity."""

    column: CategoryColumn

    gives = "number"
    nulls = NO_CATEGORY
    formula = "-Σ p · log₂ p, computed as (ln N - Σ n ln n / N) / ln 2 with p = n / N, in one pass over the counts"
    source = "Shannon (1948)"
    example = '{"column": "country"}'

    def compile(self, entities: Entities) -> Expression:
        """Compute the entropy from the counts; rounding never makes it negative."""
        text = "GREATEST(LN(SUM(:n)) - SUM(:n * LN(:n)) / SUM(:n), 0) / LN(2)"
        return entities.categories(self.column, text)


class Herfindahl(CategoryOperation, frozen=True, tag="concentration"):
    """Herfindahl index of the entity's categories: 1 where all rows have one, 1/k where k share them evenly."""

    column: CategoryColumn

    gives = "number"
    nulls = NO_CATEGORY
    formula = "Σ p², with p = n / N"
    source = "the Herfindahl-Hirschman index"
    example = '{"column": "country"}'

    def compile(self, entities: Entities) -> Expression:
        """Sum the squares of the shares."""
        return entities.categories(self.column, "SUM(:n * :n) / (SUM(:n) * SUM(:n))")


class Gini(CategoryOperation, frozen=True, tag="gini"):
    """Gini coefficient of a numeric column's values within the entity: 0 where all are equal."""

    column: NumberColumn

    gives = "number"
    nulls = "where the entity has no known value, a negative one, or a sum of 0"
    formula = "Σ (2 i - n - 1) x_i / (n Σ x), the values in rising order"
    source = "Gini (1912)"
    example = '{"column": "amount"}'

    def compile(self, entities: Entities) -> Expression:
        """Weigh the values by their rank."""
        x = entities.number(self.column)
        rank = entities.ranked(x)
        known, total = entities.rows("COUNT(:x)", x=x), entities.rows("SUM(:x)", x=x)
        text = "CASE WHEN :least >= 0 THEN (2 * :weighed - (:n + 1) * :sum) / NULLIF(:n * :sum, 0) END"
        weighed = entities.rows("SUM(CASE WHEN NOT :x IS NULL THEN :rank * :x END)", x=x, rank=rank)
        return entities.sql(text, least=entities.rows("MIN(:x)", x=x), weighed=weighed, n=known, sum=total)


class MostFrequentPair(CategoryOperation, frozen=True, tag="most_frequent_pair"):
    """The pair of categories of two columns that is most frequent within the entity, joined by a bar."""

    column: CategoryColumn
    other: CategoryColumn

    gives = "string"
    publishes_values = True
    nulls = "where no row of the entity has both categories"
    formula = "v | w with the most rows, the smallest of equals"
    source = "the statistical mode"
    example = '{"column": "country", "other": "items"}'

    def compile(self, entities: Entities) -> Expression:
        """Take the pair with the highest count."""
        pair = entities.sql(":a || '|' || :b", a=entities.text(self.column), b=entities.text(self.other))
        count = entities.grouped("COUNT(:p)", pair, p=pair)
        most = entities.grouped("MAX(:n)", entities.sql("1"), n=count)
        return entities.rows("MIN(CASE WHEN :n = :most THEN :p END)", n=count, most=most, p=pair)
