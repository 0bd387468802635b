"""How an entity's rows spread over the categories of a column."""

from __future__ import annotations

from service.features.operations.expression import Entities, Expression
from service.features.operations.operation import EntityOperation
from service.features.operations.parameters import CategoryColumn

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
