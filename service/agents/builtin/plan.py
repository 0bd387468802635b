"""Make a plan with its reasoning from the data of a prompt, or say why no plan is possible."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from msgspec.structs import replace

from service.agents.builtin.activity_features import activity_candidates
from service.agents.builtin.candidates import Candidate, capital, describe, plural
from service.agents.builtin.choose import choose
from service.agents.builtin.columns import ColumnIndex, classify_columns
from service.agents.builtin.condition_features import flag_candidates, selected_candidates
from service.agents.builtin.conditions import find_conditions
from service.agents.builtin.entity_features import entity_candidates
from service.agents.builtin.event_features import event_candidates
from service.agents.builtin.events import EVENT_KINDS, Event, find_events, funnel
from service.agents.builtin.grain import GrainChoice, choose_grain
from service.agents.builtin.lexicon import KNOWN_WORDS, TEXTUAL
from service.agents.builtin.planning_context import PlanningContext
from service.agents.builtin.reading import Reading, read
from service.agents.builtin.relation_features import relation_candidates
from service.agents.builtin.relations import find_relations
from service.agents.builtin.row_features import row_candidates
from service.agents.builtin.series_features import series_candidates
from service.agents.builtin.spelling import fix_spelling
from service.agents.builtin.text_features import text_candidates
from service.agents.output import Impossible
from service.agents.prompts import Request
from service.agents.words import FUNCTION_WORDS, MAX_SENTENCE_WORDS, beginning, concepts, stemmed
from service.concurrency.threads import checkpoint
from service.features.model import ExtractionOptions, FeaturePlan, PlannedFeature
from service.features.operations import ENTITY, TIME

HEADS = stemmed("type status size score level name kind class group state")
"""Nouns that mean little without the word before them."""
MIN_UNKNOWN_WORDS = 2
MAX_STEPS = 20
MAX_CONDITIONS = 24
"""Conditions on rows that features are proposed for; each is tried with every number and span of time."""
CONDITIONS_LEFT_OUT = f"conditions on rows after the first {MAX_CONDITIONS}"
MAX_LISTED_EVENTS = 6
MAX_LISTED_NAMES = 6


def make_plan(request: Request) -> FeaturePlan | Impossible:
    """Plan a request. The same request always gives the same plan."""
    reading = _read(request)
    columns = classify_columns(request, reading)
    unserved = _unserved(reading, columns)
    obstacle = _option_fault(request.options, columns) or _obstacle(reading, unserved, columns)
    if obstacle is not None:
        return Impossible(describe(capital(obstacle)))
    events = find_events(columns, reading)
    relations = find_relations(columns, reading)
    choice = choose_grain(reading, columns, events, request.options, relations)
    conditions = find_conditions(columns, reading)
    context = PlanningContext(
        reading,
        columns,
        events,
        choice.entity,
        choice.time,
        choice.groups,
        conditions[:MAX_CONDITIONS],
        relations,
        conditions_left_out=len(conditions) > MAX_CONDITIONS,
    )
    features = choose(
        _candidates(context, choice),
        limit=request.options.max_features,
        row_count=request.row_count,
        broad=reading.broad,
        reserved=[match.name for match in (choice.entity, choice.time) if match is not None],
    )
    if not features:
        return Impossible("No column of the dataset has more than one value that a feature could be computed from")
    entity = choice.entity.name if choice.entity and _uses_entity(choice, features, request.options) else None
    time = choice.time.name if choice.time and _uses_time(features, request.options) else None
    steps = tuple(describe(step) for step in _steps(context, choice, features, unserved, request))[:MAX_STEPS]
    return FeaturePlan(choice.grain, features, entity, time, steps)


def _read(request: Request) -> Reading:
    """Read the words of the sentence that there is time for."""
    text = beginning(request.description)
    spelled = fix_spelling(text, request.columns)
    checkpoint()
    reading = read(spelled)
    cut = (f"the words after the first {MAX_SENTENCE_WORDS}",) if len(text) < len(request.description) else ()
    return replace(reading, unread=(*cut, *reading.unread))


def _candidates(context: PlanningContext, choice: GrainChoice) -> Iterator[Candidate]:
    if choice.grain == "entity":
        return chain(
            event_candidates(context),
            selected_candidates(context),
            activity_candidates(context),
            entity_candidates(context),
        )
    return chain(
        flag_candidates(context),
        row_candidates(context),
        relation_candidates(context),
        text_candidates(context),
        series_candidates(context),
    )


def _uses_entity(choice: GrainChoice, features: Sequence[PlannedFeature], options: ExtractionOptions) -> bool:
    looked_back = any(getattr(feature.operation, "entity", None) is not None for feature in features)
    return choice.grain == "entity" or options.entity is not None or looked_back


def _uses_time(features: Sequence[PlannedFeature], options: ExtractionOptions) -> bool:
    return options.time is not None or any(
        getattr(feature.operation, "time", None) or getattr(feature.operation, "last_days", None)
        for feature in features
    )


def _option_fault(options: ExtractionOptions, columns: ColumnIndex) -> str | None:
    """Return what is wrong with the client's options; None if a plan can respect them."""
    for what, name, accepted in (("entity", options.entity, ENTITY), ("time column", options.time, TIME)):
        if name is None:
            continue
        match = columns.find(name)
        if match is None:
            return f"the {what} {name} is no column of the dataset"
        if name == options.target:
            return f"the {what} {name} cannot be the target as well"
        if match.column.type not in accepted:
            return f"the column {name} is {match.column.type} and cannot be the {what}"
    return None


def _unserved(reading: Reading, columns: ColumnIndex) -> tuple[str, ...]:
    """Return the noun phrases that a statistic is asked of and that nothing in the dataset matches."""
    return tuple(" ".join(phrase) for phrase in reading.asks if not _served(phrase, columns))


def _served(phrase: Sequence[str], columns: ColumnIndex) -> bool:
    """Check whether the dataset matches the phrase, or it has only general words: "time spent"."""
    if all(word in KNOWN_WORDS and word not in TEXTUAL for word in phrase):
        return True
    return any(_held(word, columns) for word in phrase if not word.isdigit())


def _obstacle(reading: Reading, unserved: Sequence[str], columns: ColumnIndex) -> str | None:
    """Return why a request is impossible because everything it names is missing; a vague request never is."""
    if unserved and len(unserved) == len(reading.asks):
        return f"no column of the dataset holds {_listed(unserved, reading)}"
    own = [word for word in reading.words if word not in KNOWN_WORDS]
    nothing_known = not any(_known(word, columns) for word in own)
    missing = [" ".join(phrase) for phrase in reading.per if not any(_known(word, columns) for word in phrase)]
    if missing and nothing_known and len(own) > 1:
        return f"no column of the dataset holds {_listed(missing, reading)}"
    unknown = _unknown_words(reading, columns)
    if unknown:
        return f"no column of the dataset holds {' or '.join(repr(reading.spelled(word)) for word in unknown)}"
    return None


def _unknown_words(reading: Reading, columns: ColumnIndex) -> tuple[str, ...]:
    """Return the particular words of an English sentence if the dataset matches none of them.

    Words for the output row do not count, nor do words that go with any noun ("blood type").
    """
    if (
        reading.intents
        or reading.broad
        or reading.purposes
        or reading.predicted
        or FUNCTION_WORDS.isdisjoint(reading.sentence.set)
    ):
        return ()
    entities = {word for phrase in reading.per for word in phrase}
    general = KNOWN_WORDS | HEADS | entities
    things = dict.fromkeys(word for word in reading.words if word not in general and not word.isdigit())
    unknown = tuple(word for word in things if not _known(word, columns))
    return unknown if len(unknown) >= MIN_UNKNOWN_WORDS and len(unknown) == len(things) else ()


def _listed(phrases: Sequence[str], reading: Reading) -> str:
    """List phrases as the sentence has them: `'blood pressure' or 'hospital'`."""
    others = [" ".join(phrase) for phrase in reading.per if " ".join(phrase) not in phrases]
    return " or ".join(repr(reading.spelled(phrase)) for phrase in (*phrases, *others))


def _known(word: str, columns: ColumnIndex) -> bool:
    """Check whether a word is general, or matches a column, a value or their meaning."""
    asking = word in KNOWN_WORDS or word in FUNCTION_WORDS or word.isdigit()
    return (asking and word not in TEXTUAL) or _held(word, columns)


def _held(word: str, columns: ColumnIndex) -> bool:
    """Check whether a column's name, a value or their meaning matches the word."""
    if word in TEXTUAL:
        return bool(columns.texts)
    meant = concepts(word)
    return (
        columns.names.has_same(word)
        or not meant.isdisjoint(columns.meanings)
        or word in columns.value_stems
        or not EVENT_KINDS.isdisjoint(meant & columns.value_meanings)
    )


def _steps(
    context: PlanningContext,
    choice: GrainChoice,
    features: Sequence[PlannedFeature],
    unserved: Sequence[str],
    request: Request,
) -> Iterator[str]:
    """Explain in plain words how the sentence was read."""
    yield _grain_step(context, choice)
    if context.time is not None and _uses_time(features, request.options):
        column = context.time.column
        yield f"Time is read from {column.name}, which runs from {column.minimum} to {column.maximum}, taken as now."
    yield from _event_steps(context.events, choice, frozenset(feature.name for feature in features))
    if context.reading.windows:
        yield f"Windows of time: {', '.join(window.words for window in context.reading.windows)}."
    if context.groups and choice.grain == "row":
        yield f"Rows are compared within {', '.join(match.name for match in context.groups)}."
    target = request.options.target
    if target is not None:
        yield f"{target} is the target: no feature reads it."
    if context.columns.leaking:
        yield f"Not read, for they give the target away: {', '.join(context.columns.leaking)}."
    if context.columns.excluded:
        yield f"Not read, as the request says: {', '.join(context.columns.excluded)}."
    left = [context.reading.spelled(phrase) for phrase in unserved]
    if left:
        yield f"Left out, for no column holds it: {', '.join(left)}."
    unread = (*context.reading.unread, *((CONDITIONS_LEFT_OUT,) if context.conditions_left_out else ()))
    if unread:
        yield f"Not read, because the request has too many: {', '.join(unread)}."
    if request.columns_left_out:
        yield f"{request.columns_left_out} columns that match the request least were not considered."
    yield f"Proposed {len(features)} features, what the request names first: {_names(features)}."


def _grain_step(context: PlanningContext, choice: GrainChoice) -> str:
    if choice.grain == "entity" and choice.entity is not None:
        column = choice.entity.column
        return (
            f"Features are computed for each {column.name}: {column.distinct} distinct values "
            f"over {context.columns.row_count} rows."
        )
    along = f" A row may look back on earlier rows of the same {choice.entity.name}." if choice.entity else ""
    return f"Features are computed for each of the {context.columns.row_count} rows.{along}"


def _event_steps(events: Sequence[Event], choice: GrainChoice, names: frozenset[str]) -> Iterator[str]:
    if choice.grain != "entity":
        return
    listed = [event for event in events if event.where or event.counter][:MAX_LISTED_EVENTS]
    if listed:
        yield "Events: " + "; ".join(f"{plural(event.name)} are {event.words}" for event in listed) + "."
    steps = funnel(events)
    if {"click", "impression"} <= steps.keys() and "click_through_rate" in names:
        yield "Click-through rate is clicks over impressions."
    if {"purchase", "click"} <= steps.keys() and "conversion_rate" in names:
        yield "Conversion rate is purchases over clicks."


def _names(features: Sequence[PlannedFeature]) -> str:
    listed = ", ".join(feature.name for feature in features[:MAX_LISTED_NAMES])
    return listed + (" …" if len(features) > MAX_LISTED_NAMES else "")
