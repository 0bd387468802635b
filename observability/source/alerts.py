"""Alerting rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from observability.source import burn
from observability.source.causes import CAUSES
from observability.source.causes.cause import OWN, Cause
from observability.source.links import links
from observability.source.rule_files import Alerting, Group, rule_file
from observability.source.slo import Objectives

INTERVAL = "30s"


def groups_by_file(objectives: Objectives) -> Mapping[str, Sequence[Group]]:
    """Every group of alerting rules, by its file's name."""
    causes = {name: [_group(name, causes, objectives)] for name, causes in CAUSES.items()}
    return {**burn.groups(objectives), **causes}


def render(objectives: Objectives) -> Mapping[str, str]:
    """Every file of alerting rules."""
    files = groups_by_file(objectives)
    return {f"observability/alerts/{name}.rules.yml": rule_file(groups) for name, groups in files.items()}


def _group(name: str, causes: Sequence[Cause], objectives: Objectives) -> Group:
    return Group(name, objectives.scale.interval(INTERVAL), [_rule(cause, objectives) for cause in causes])


def _rule(cause: Cause, objectives: Objectives) -> Alerting:
    query = cause.query.replace(OWN, objectives.selector).replace("@spend", f"{objectives.spend_usd_per_hour:g}")
    pending = cause.pending if cause.pending == "0s" else objectives.scale.pending(cause.pending)
    slo = {"slo": cause.slo} if cause.slo else {}
    return Alerting(
        cause.alert,
        objectives.scale.query(query),
        pending,
        {"severity": cause.severity, "service": objectives.service, "alertgroup": cause.group, **slo},
        {
            "summary": cause.summary,
            "description": cause.description,
            **links(objectives, cause.alert, cause.dashboard, since=cause.since),
        },
        None if cause.keep is None else objectives.scale.outlasting(cause.keep),
    )
