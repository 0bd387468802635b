"""From what a model is told to what it answers: a plan with its reasoning, or why there can be none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from service.agents.builtin.activity_features import activity_candidates
from service.agents.builtin.candidates import Candidate, capital, describe, plural
from service.agents.builtin.choose import choose
from service.agents.builtin.condition_features import flag_candidates, selected_candidates
from service.agents.builtin.conditions import find_conditions
from service.agents.builtin.entity_features import entity_candidates
from service.agents.builtin.event_features import event_candidates
from service.agents.builtin.events import Event, find_events, funnel, happenings
from service.agents.builtin.lexicon import KNOWN_WORDS, TEXTUAL
from service.agents.builtin.reading import Reading, read
from service.agents.builtin.relation_features import relation_candidates
from service.agents.builtin.relations import find_relations
from service.agents.builtin.row_features import row_candidates
from service.agents.builtin.scene import Scene
from service.agents.builtin.series_features import series_candidates
from service.agents.builtin.setting import Setting, settle
from service.agents.builtin.sheet import Sheet, lay_out
from service.agents.builtin.spelling import mend
from service.agents.builtin.text_features import text_candidates
from service.agents.output import Impossible
from service.agents.prompts import Request
from service.agents.words import FUNCTION_WORDS, concepts, same, stemmed, stems
from service.features.model import ExtractionOptions, FeaturePlan, PlannedFeature
from service.features.operations import ENTITY, TIME

HEADS = stemmed("type status size score level name kind class group state")
"""Nouns that say nothing without the word before them."""
LEAST_STRANGE = 2
MAX_STEPS = 20
MAX_EVENTS_TOLD = 6
MAX_NAMES_TOLD = 6


def make_plan(request: Request) -> FeaturePlan | Impossible:
    """Plan a request. The same request always gives the same plan."""
    reading = read(mend(request.description, request.columns))
    sheet = lay_out(request, reading)
    unserved = _unserved(reading, sheet)
    obstacle = _option_fault(request.options, sheet) or _obstacle(reading, unserved, sheet)
    if obstacle is not None:
        return Impossible(describe(capital(obstacle)))
    events = find_events(sheet, reading)
    relations = find_relations(sheet, reading)
    setting = settle(reading, sheet, events, request.options, relations)
    scene = Scene(
        reading,
        sheet,
        events,
        setting.entity,
        setting.time,
        setting.groups,
        find_conditions(sheet, reading),
        relations,
    )
    features = choose(
        _candidates(scene, setting),
        limit=request.options.max_features,
        row_count=request.row_count,
        broad=reading.broad,
        reserved=[seen.name for seen in (setting.entity, setting.time) if seen is not None],
    )
    if not features:
        return Impossible("No column of the dataset has more than one value that a feature could be computed from")
    entity = setting.entity.name if setting.entity and _uses_entity(setting, features, request.options) else None
    time = setting.time.name if setting.time and _uses_time(features, request.options) else None
    steps = tuple(describe(step) for step in _steps(scene, setting, features, unserved, request))[:MAX_STEPS]
    return FeaturePlan(setting.grain, features, entity, time, steps)


def _candidates(scene: Scene, setting: Setting) -> Iterator[Candidate]:
    if setting.grain == "entity":
        return chain(
            event_candidates(scene), selected_candidates(scene), activity_candidates(scene), entity_candidates(scene)
        )
    return chain(
        flag_candidates(scene),
        row_candidates(scene),
        relation_candidates(scene),
        text_candidates(scene),
        series_candidates(scene),
    )


def _uses_entity(setting: Setting, features: Sequence[PlannedFeature], options: ExtractionOptions) -> bool:
    looked_back = any(getattr(feature.operation, "entity", None) is not None for feature in features)
    return setting.grain == "entity" or options.entity is not None or looked_back


def _uses_time(features: Sequence[PlannedFeature], options: ExtractionOptions) -> bool:
    return options.time is not None or any(
        getattr(feature.operation, "time", None) or getattr(feature.operation, "last_days", None)
        for feature in features
    )


def _option_fault(options: ExtractionOptions, sheet: Sheet) -> str | None:
    """What the client fixed and no plan can keep to."""
    for what, name, accepted in (("entity", options.entity, ENTITY), ("time column", options.time, TIME)):
        if name is None:
            continue
        seen = sheet.find(name)
        if seen is None:
            return f"the {what} {name} is no column of the dataset"
        if name == options.target:
            return f"the {what} {name} cannot be the target as well"
        if seen.column.type not in accepted:
            return f"the column {name} is {seen.column.type} and cannot be the {what}"
    return None


def _unserved(reading: Reading, sheet: Sheet) -> tuple[str, ...]:
    """The noun phrases that a statistic is asked of and that nothing in the dataset stands for."""
    return tuple(" ".join(phrase) for phrase in reading.asks if not _served(phrase, sheet))


def _served(phrase: Sequence[str], sheet: Sheet) -> bool:
    """Whether the dataset has something of the phrase, or it has no word but those of requests: "time spent"."""
    if all(word in KNOWN_WORDS and word not in TEXTUAL for word in phrase):
        return True
    return any(_held(word, sheet) for word in phrase if not word.isdigit())


def _obstacle(reading: Reading, unserved: Sequence[str], sheet: Sheet) -> str | None:
    """Why a request cannot be served, when everything it names is missing; a vague one always can."""
    if unserved and len(unserved) == len(reading.asks):
        return f"no column of the dataset holds {_listed(unserved, reading)}"
    own = [word for word in reading.words if word not in KNOWN_WORDS]
    nothing_known = not any(_known(word, sheet) for word in own)
    missing = [" ".join(phrase) for phrase in reading.per if not any(_known(word, sheet) for word in phrase)]
    if missing and nothing_known and len(own) > 1:
        return f"no column of the dataset holds {_listed(missing, reading)}"
    strange = _all_strange(reading, sheet)
    if strange:
        return f"no column of the dataset holds {' or '.join(repr(reading.spelled(word)) for word in strange)}"
    return None


def _all_strange(reading: Reading, sheet: Sheet) -> tuple[str, ...]:
    """The words of an English sentence about particular things, when the dataset has nothing of any of them.

    What each row of the answer should stand for is no such thing, nor is a word that goes with any noun ("blood type").
    """
    if (
        reading.intents
        or reading.broad
        or reading.purposes
        or reading.predicted
        or FUNCTION_WORDS.isdisjoint(reading.words)
    ):
        return ()
    entities = {word for phrase in reading.per for word in phrase}
    things = [word for word in reading.words if word not in KNOWN_WORDS | HEADS | entities and not word.isdigit()]
    strange = tuple(dict.fromkeys(word for word in things if not _known(word, sheet)))
    return strange if len(strange) >= LEAST_STRANGE and len(strange) == len(set(things)) else ()


def _listed(phrases: Sequence[str], reading: Reading) -> str:
    """Phrases as the sentence had them: `'blood pressure' or 'hospital'`."""
    others = [" ".join(phrase) for phrase in reading.per if " ".join(phrase) not in phrases]
    return " or ".join(repr(reading.spelled(phrase)) for phrase in (*phrases, *others))


def _known(word: str, sheet: Sheet) -> bool:
    """Whether a word asks in general, or names something that a column, a value or its meaning stands for."""
    asking = word in KNOWN_WORDS or word in FUNCTION_WORDS or word.isdigit()
    return (asking and word not in TEXTUAL) or _held(word, sheet)


def _held(word: str, sheet: Sheet) -> bool:
    """Whether a column's name, a value or their meaning stands for the word."""
    if word in TEXTUAL:
        return bool(sheet.texts)
    happening = happenings((word,))
    for seen in sheet.all:
        if any(same(word, part) for part in seen.stems) or concepts(word) & seen.meanings:
            return True
        for entry in seen.column.values:
            parts = stems(str(entry.value))
            if word in parts or not happening.isdisjoint(happenings(parts)):
                return True
    return False


def _steps(
    scene: Scene, setting: Setting, features: Sequence[PlannedFeature], unserved: Sequence[str], request: Request
) -> Iterator[str]:
    """How the sentence was read, in plain words."""
    yield _grain_step(scene, setting)
    if scene.time is not None and _uses_time(features, request.options):
        column = scene.time.column
        yield f"Time is read from {column.name}, which runs from {column.minimum} to {column.maximum}, taken as now."
    yield from _event_steps(scene.events, setting, frozenset(feature.name for feature in features))
    if scene.reading.windows:
        yield f"Windows of time: {', '.join(window.words for window in scene.reading.windows)}."
    if scene.groups and setting.grain == "row":
        yield f"Rows are compared within {', '.join(seen.name for seen in scene.groups)}."
    target = request.options.target
    if target is not None:
        yield f"{target} is the target: no feature reads it."
    if scene.sheet.leaking:
        yield f"Not read, for they give the target away: {', '.join(scene.sheet.leaking)}."
    if scene.sheet.unwelcome:
        yield f"Not read, as the request says: {', '.join(scene.sheet.unwelcome)}."
    left = [scene.reading.spelled(phrase) for phrase in unserved]
    if left:
        yield f"Left out, for no column holds it: {', '.join(left)}."
    if request.columns_left_out:
        yield f"{request.columns_left_out} columns that match the request least were not considered."
    yield f"Proposed {len(features)} features, what the request names first: {_names(features)}."


def _grain_step(scene: Scene, setting: Setting) -> str:
    if setting.grain == "entity" and setting.entity is not None:
        column = setting.entity.column
        return (
            f"Features are computed for each {column.name}: {column.distinct} distinct values "
            f"over {scene.sheet.row_count} rows."
        )
    along = f" A row may look back on earlier rows of the same {setting.entity.name}." if setting.entity else ""
    return f"Features are computed for each of the {scene.sheet.row_count} rows.{along}"


def _event_steps(events: Sequence[Event], setting: Setting, names: frozenset[str]) -> Iterator[str]:
    if setting.grain != "entity":
        return
    told = [event for event in events if event.where or event.counter][:MAX_EVENTS_TOLD]
    if told:
        yield "Events: " + "; ".join(f"{plural(event.name)} are {event.words}" for event in told) + "."
    steps = funnel(events)
    if {"click", "impression"} <= steps.keys() and "click_through_rate" in names:
        yield "Click-through rate is clicks over impressions."
    if {"purchase", "click"} <= steps.keys() and "conversion_rate" in names:
        yield "Conversion rate is purchases over clicks."


def _names(features: Sequence[PlannedFeature]) -> str:
    listed = ", ".join(feature.name for feature in features[:MAX_NAMES_TOLD])
    return listed + (" …" if len(features) > MAX_NAMES_TOLD else "")
