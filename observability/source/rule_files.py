"""Rule files as text, in the part of the format that Prometheus 2.42 and 3.x share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from msgspec import Struct, field

HEADER = "# Generated from observability/slo.yaml and observability/source: `make observability` writes it anew.\n"


class Recording(Struct, frozen=True):
    """One recording rule."""

    record: str
    expr: str
    labels: Mapping[str, str] = field(default_factory=dict[str, str])


class Alerting(Struct, frozen=True):
    """One alerting rule."""

    alert: str
    expr: str
    pending: str
    """`for`."""
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    keep: str | None = None
    """`keep_firing_for`: how long it goes on after its condition has ended."""


class Group(Struct, frozen=True):
    """Rules that are evaluated one after the other."""

    name: str
    interval: str
    rules: Sequence[Recording | Alerting]


def rule_file(groups: Sequence[Group]) -> str:
    """The file's text."""
    document = {"groups": [_group(group) for group in groups]}
    return HEADER + yaml.safe_dump(document, sort_keys=False, width=1000, allow_unicode=True)


def _group(group: Group) -> dict[str, Any]:
    return {"name": group.name, "interval": group.interval, "rules": [_rule(rule) for rule in group.rules]}


def _rule(rule: Recording | Alerting) -> dict[str, Any]:
    if isinstance(rule, Recording):
        labels = {"labels": dict(rule.labels)} if rule.labels else {}
        return {"record": rule.record, "expr": rule.expr, **labels}
    return {
        "alert": rule.alert,
        "expr": rule.expr,
        "for": rule.pending,
        **({} if rule.keep is None else {"keep_firing_for": rule.keep}),
        "labels": dict(rule.labels),
        "annotations": dict(rule.annotations),
    }
