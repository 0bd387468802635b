"""How a dialect spells the primitives: one template for each, in the dialect's own SQL."""

from __future__ import annotations

from collections.abc import Mapping

from sqlglot.dialects.dialect import Dialect
from sqlglot.generator import Generator

from service.engines.sql.template import Primitive, closed, fill, parsed
from service.features.operations.expression import PRIMITIVES


class Spelling:
    """The templates of one dialect, their placeholders named like the primitives' arguments."""

    def __init__(self, base: type[Dialect], templates: Mapping[str, str]) -> None:
        """Parse the templates in the dialect `base`. Raises ValueError when a primitive is missing or unknown."""
        if differing := PRIMITIVES.keys() ^ templates.keys():
            raise ValueError(f"{base.__name__} spells other primitives than there are: {', '.join(sorted(differing))}")
        self._trees = {name: parsed(text, base) for name, text in templates.items()}

    def write(self, generator: Generator, call: Primitive) -> str:
        """The call in the dialect's words; for the dialect's generator."""
        arguments = dict(zip(PRIMITIVES[call.name][0], call.expressions, strict=True))
        return generator.sql(closed(fill(self._trees[call.name], arguments)))
