"""Parts of Grafana's field configuration: thresholds, value mappings, overrides, and how far an axis reaches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import units

UNKNOWN = "gray"
"""The colour of what is not known: no value is neither good nor bad."""
NEUTRAL = "text"
"""The colour of a number that is neither good nor bad: green is for what is known to be good."""
SOFT_MAX: Mapping[str, float] = {
    units.PercentUnit: 0.1,
    units.Percent: 10,
    units.Dollars: 0.01,
    units.Seconds: 0.01,
    units.BytesIEC: 1048576,
}
"""How far the axis of a flat zero reaches, by unit; without one Grafana draws 10 000 % or $100. Otherwise to 1."""

Steps = Mapping[float, str]
"""Thresholds: from this value on, that colour."""
Words = Mapping[str, tuple[str, str]]
"""What single values mean, and their colours; `0.1..0.9` is what lies between, ends included."""


def thresholds(steps: Steps, base: str) -> model.ThresholdsConfig:
    """The steps above a base colour."""
    found = [model.Threshold(value=value, color=colour) for value, colour in sorted(steps.items())]
    return model.ThresholdsConfig(
        mode=model.ThresholdsMode.ABSOLUTE, steps=[model.Threshold(value=None, color=base), *found]
    )


def mappings(words: Words) -> list[model.ValueMapping]:
    """The words as value and range mappings."""
    return [*_values(words), *_ranges(words)]


def _values(words: Words) -> Iterator[model.ValueMap]:
    single = {value: result for value, result in _results(words).items() if ".." not in value}
    if single:
        yield model.ValueMap(options=single)


def _ranges(words: Words) -> Iterator[model.RangeMap]:
    for value, result in _results(words).items():
        low, dots, high = value.partition("..")
        if dots:
            yield model.RangeMap(options=model.DashboardRangeMapOptions(float(low), float(high), result))


def _results(words: Words) -> dict[str, model.ValueMappingResult]:
    return {
        value: model.ValueMappingResult(text=text, color=colour, index=at)
        for at, (value, (text, colour)) in enumerate(words.items())
    }


def unknown() -> model.SpecialValueMap:
    """No value in grey: Grafana colours it like the lowest threshold otherwise, which is green for most."""
    return model.SpecialValueMap(
        options=model.DashboardSpecialValueMapOptions(
            model.SpecialValueMatch.NULL_AND_NAN, model.ValueMappingResult(color=UNKNOWN, index=99)
        )
    )


def gap() -> model.SpecialValueMap:
    """A gap of a state timeline in grey, with a word: this match alone makes Grafana draw it."""
    return model.SpecialValueMap(
        options=model.DashboardSpecialValueMapOptions(
            model.SpecialValueMatch.NULL, model.ValueMappingResult(text="not known", color=UNKNOWN, index=99)
        )
    )


def override(matcher: str, of: str, settings: Mapping[str, object]) -> model.DashboardFieldConfigSourceOverrides:
    """Settings of the fields that match."""
    return model.DashboardFieldConfigSourceOverrides(
        matcher=model.MatcherConfig(id_val=matcher, options=of),
        properties=[model.DynamicConfigValue(id_val=name, value=value) for name, value in settings.items()],
    )


def fixed(colour: str) -> Mapping[str, object]:
    """One colour, as an override has it."""
    return {"color": {"mode": "fixed", "fixedColor": colour}}
