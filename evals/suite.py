"""The cases as data: a profile, a sentence, and what a good plan of the two must have."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from service.features.model import ExtractionOptions, Grain, Profile
from service.features.operations import Scalar

HERE = Path(__file__).parent
CASES = HERE / "cases"
PROFILES = HERE / "profiles"

Pattern = dict[str, Any]
"""An operation as far as it matters: `kind` and any of its fields; see `matching.fits`."""
Values = Scalar | tuple[Scalar, ...]


class EvalCase(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One request and the properties that every good plan of it has; a property that is not stated is not looked at."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    profile: str = ""
    """Name of the profile; one for a whole file of cases."""
    sentence: Annotated[str, Meta(min_length=5)]
    tags: Annotated[tuple[str, ...], Meta(min_length=1)]
    options: ExtractionOptions = ExtractionOptions()
    held_out: bool = False
    """Written like the others, and not looked at while a planner is made better."""
    impossible: bool = False
    """No column could serve the request: it must be refused."""
    grain: Grain | None = None
    entity: tuple[str, ...] = ()
    """The plan's entity is one of these."""
    time: tuple[str, ...] = ()
    """The plan's time column is one of these."""
    reads: tuple[tuple[str, ...], ...] = ()
    """Of each group, at least one column is read by some feature, or is the plan's entity."""
    avoids: tuple[str, ...] = ()
    """Columns that no feature reads and that are no key of the plan: the target, what gives it away, the unwanted."""
    wants: tuple[tuple[Pattern, ...], ...] = ()
    """Of each group, at least one pattern fits some feature's operation."""
    filters: tuple[dict[str, Values], ...] = ()
    """Each is a column and values: some predicate selects exactly those."""
    windows: tuple[float, ...] = ()
    """Days: for each, some operation looks back so far."""
    features: tuple[int, int] | None = None
    """Fewest and most features."""


class _CaseFile(Struct, frozen=True, forbid_unknown_fields=True):
    profile: str
    cases: tuple[EvalCase, ...]


def load_cases(folder: Path = CASES) -> tuple[EvalCase, ...]:
    """Every case of the folder's files, in the order of the files' names. Raises msgspec.ValidationError."""
    found: list[EvalCase] = []
    for path in sorted(folder.glob("*.yaml")):
        file = msgspec.yaml.decode(path.read_bytes(), type=_CaseFile)
        found += [msgspec.structs.replace(case, profile=file.profile) for case in file.cases]
    return tuple(found)


@lru_cache
def load_profile(name: str) -> Profile:
    """A profile as the service's ingest gave it."""
    return msgspec.json.decode((PROFILES / f"{name}.json").read_bytes(), type=Profile)
