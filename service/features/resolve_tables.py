"""Resolve the options of a request to the tables that it reads; every fault names the member at fault."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from service.features.joins import comparable, invalid
from service.features.layout import Table
from service.features.model import Dataset, ExtractionOptions, ExtractionRequest, FieldError, Profile
from service.features.operations import ENTITY
from service.features.table_options import EntityKey, TableOptions
from service.features.tables import Tables


def resolve(request: ExtractionRequest, main: Dataset, others: dict[str, Dataset]) -> Tables:
    """Lay out what the request reads. Raises InvalidRequest that names each member at fault.

    `others` are the datasets of `others_of`, by id.
    """
    options = request.tables
    observed = None if options.observations is None else others[options.observations.dataset_id]
    related = tuple(others[wanted.dataset_id] for wanted in options.related)
    if faults := [*_repeated(request), *_bad_key(options.entity, main.profile), *_bad_horizon(options)]:
        raise invalid(faults)
    entity = None if options.observations is None else request.options.entity or options.observations.entity
    tables = Tables(main, related, observed, options, _main_time(request, main.profile), entity)
    if tables.plain:
        return tables
    if faults := [*_unknown_names(tables, request.options), *_bad_times(tables), *_bad_observations(tables)]:
        raise invalid(faults)
    return tables


def others_of(options: TableOptions) -> tuple[str, ...]:
    """Return the ids of the datasets that the options name, each once."""
    named = [wanted.dataset_id for wanted in options.related]
    if options.observations is not None:
        named.append(options.observations.dataset_id)
    return tuple(dict.fromkeys(named))


def planning_options(request: ExtractionRequest, tables: Tables) -> ExtractionOptions:
    """Return what is fixed for the planner, in the words of `Tables.profile`."""
    options = request.options
    entity, observations = options.entity, request.tables.observations
    if request.tables.entity is not None:
        entity = request.tables.entity.name
    elif entity is None:
        entity = tables.entity
    time = options.time
    timed = request.tables.as_of is not None or observations is not None
    timed = timed or any(wanted.time is not None for wanted in request.tables.related)
    if time is None and timed:
        time = next((found for level in tables.layout.levels if (found := tables.layout.time_of(level))), None)
    return replace(options, entity=entity, time=time)


def _repeated(request: ExtractionRequest) -> Iterator[FieldError]:
    seen = {request.dataset_id}
    for place, wanted in enumerate(request.tables.related):
        if wanted.called in seen:
            member = "dataset_id" if wanted.name is None else "name"
            fault = f"{wanted.called!r} is already a table of the request: give this one a `name` of its own"
            yield FieldError(f"options.related[{place}].{member}", fault)
        seen.add(wanted.called)


def _bad_key(key: EntityKey | None, profile: Profile) -> Iterator[FieldError]:
    if key is None:
        return
    yield from _bad_parts(key, profile)
    if key.by is not None and not key.columns:
        yield FieldError("options.entity.columns", "`by` takes the datetime column whose periods count")
    if len({*key.columns}) < len(key.columns):
        yield FieldError("options.entity.columns", "each column once")
    made = [key.name] if not key.columns else [key.parts[-1]] if key.by is not None else []
    for name in made:
        if profile.column(name) is not None:
            yield FieldError("options.entity", f"the dataset has a column {name!r}: name it as the entity")


def _bad_parts(key: EntityKey, profile: Profile) -> Iterator[FieldError]:
    for place, name in enumerate(key.columns):
        column, path = profile.column(name), f"options.entity.columns[{place}]"
        if column is None:
            yield FieldError(path, f"the dataset has no column {name!r}")
        elif key.by is not None and place == len(key.columns) - 1:
            if column.logical_type != "datetime":
                yield FieldError(path, f"{name!r} is {column.logical_type}; `by` needs a datetime as the last column")
        elif column.logical_type not in ENTITY | {"datetime", "boolean"}:
            yield FieldError(path, f"{name!r} is {column.logical_type}, which identifies no entities")


def _bad_horizon(options: TableOptions) -> Iterator[FieldError]:
    horizon = options.horizon
    if horizon is None:
        return
    if options.as_of is None and options.observations is None:
        yield FieldError("options.horizon", "needs a moment that it follows: options.as_of or options.observations")
    if horizon.aggregate == "sum" and horizon.column is None:
        yield FieldError("options.horizon.column", "a sum needs the column that is summed")


def _main_time(request: ExtractionRequest, profile: Profile) -> str | None:
    """Return the time column that was fixed, or the only one there is."""
    if request.options.time is not None:
        return request.options.time if profile.column(request.options.time) is not None else None
    dated = _datetimes(profile)
    return dated[0] if len(dated) == 1 else None


def _unknown_names(tables: Tables, options: ExtractionOptions) -> Iterator[FieldError]:
    """The layout's names that stand for two columns, and options that name none."""
    layout = tables.layout
    taken = {column.name for column in tables.main.profile.columns}
    for place, table in enumerate(layout.tables[1:]):
        for column in table.profile.columns:
            if table.prefix + column.name in taken:
                path = f"options.related[{place}].dataset_id"
                yield FieldError(path, f"{table.prefix + column.name!r} is a column of the dataset, too")
    horizon = tables.options.horizon
    if horizon is not None:
        named = [("column", horizon.column)] if horizon.column is not None else []
        named += [(f"where[{place}].column", one.column) for place, one in enumerate(horizon.where)]
        for member, name in named:
            if name not in layout.places:
                yield FieldError(f"options.horizon.{member}", f"no table of the request has a column {name!r}")
        if not named and options.time is None and layout.dated_children:
            happening = ", ".join(layout.tables[place].name for place in (0, *layout.dated_children))
            fault = f"name a column of the table whose rows are counted: rows of {happening} happen in time"
            yield FieldError("options.horizon.column", fault)
        names = [name for _, name in named if name in layout.places]
        level = next(iter(layout.levels_of(names)), 0)
        if layout.time_of(level) is None:
            yield FieldError("options.horizon", f"rows of {layout.tables[level].name!r} have no time")
    target = options.target
    if target is not None and target not in layout.places:
        yield FieldError("options.target", f"no table of the request has a column {target!r}")


def _bad_times(tables: Tables) -> Iterator[FieldError]:
    """What needs a time and has none: a moment, and what is looked up as of a row's time."""
    layout, options = tables.layout, tables.options
    cut_off = options.as_of is not None or options.observations is not None
    timed = any(layout.time_of(level) is not None for level in layout.levels)
    dated = _datetimes(tables.main.profile)
    undated = [place for place, table in enumerate(layout.tables) if _lacks_time(table)] if cut_off else []
    if cut_off and not undated and (not timed or (tables.time is None and len(dated) > 1)):
        named = f"; it has {', '.join(dated[:5])}" if dated else ""
        yield FieldError("options.time", f"name the datetime column that says when a row became known{named}")
    for place, table in enumerate(layout.tables[1:], start=1):
        path, join = f"options.related[{place - 1}].time", table.join
        if join is None:
            continue
        if join.kind == "as_of" and layout.time_of(layout.level(join.to)) is None:
            other = layout.tables[join.to].name
            yield FieldError(path, f"rows of {other!r} have no time that it could be looked up for: give options.time")
        if place in undated:
            own = ", ".join(_datetimes(table.profile)[:5])
            yield FieldError(path, f"name the column that says when a row became known; it has {own}")


def _lacks_time(table: Table) -> bool:
    """Whether a child table's rows have a time, and it is not said which."""
    child = table.join is not None and table.join.kind == "child" and table.join.time is None
    return child and bool(_datetimes(table.profile))


def _datetimes(profile: Profile) -> list[str]:
    return [column.name for column in profile.columns if column.logical_type == "datetime"]


def _bad_observations(tables: Tables) -> Iterator[FieldError]:
    wanted, observed = tables.options.observations, tables.observed
    if wanted is None or observed is None:
        return
    path, profile = "options.observations", observed.profile
    taken = {"row_id", *([] if tables.options.horizon is None else [tables.options.horizon.name])}
    for name in sorted(taken.intersection(column.name for column in profile.columns)):
        yield FieldError(f"{path}.dataset_id", f"its column {name!r} has the name of one that is added: rename it")
    for member, name in (("entity", wanted.entity), ("time", wanted.time), ("label", wanted.label)):
        if name is not None and profile.column(name) is None:
            yield FieldError(f"{path}.{member}", f"the dataset {observed.id!r} has no column {name!r}")
    time, entity = profile.column(wanted.time), profile.column(wanted.entity)
    if time is not None and time.logical_type != "datetime":
        yield FieldError(f"{path}.time", f"{wanted.time!r} is {time.logical_type}, no datetime")
    if tables.options.entity is not None:
        yield FieldError("options.entity", "observations name one column: an entity of several is not looked up")
    if tables.options.as_of is not None:
        yield FieldError("options.as_of", "each observation has a moment of its own")
    name = tables.entity or wanted.entity
    own = tables.main.profile.column(name)
    if own is None:
        yield FieldError("options.entity", f"name the column that holds the observations' {wanted.entity!r}")
    elif entity is not None and not comparable(own, entity):
        yield FieldError(f"{path}.entity", f"is {entity.physical_type}; the dataset's {name!r} is {own.physical_type}")
