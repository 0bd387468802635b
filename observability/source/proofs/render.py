"""Proofs as promtool's unit tests: the annotations that never change are the rule's own, the rest is as expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from observability.source.alerts import groups_by_file
from observability.source.proofs import (
    api,
    burning,
    dependencies,
    disk,
    jobs,
    model,
    monitoring,
    outside,
    postgres,
    saturation,
)
from observability.source.proofs.proof import Expected, Proof, Samples
from observability.source.rule_files import HEADER, Alerting
from observability.source.slo import Objectives

EXTERNAL_URL = "http://prometheus.example.com"
_CAUSES: Mapping[str, Sequence[Proof]] = {
    "api": api.PROOFS,
    "jobs": jobs.PROOFS,
    "model": model.PROOFS,
    "dependencies": dependencies.PROOFS,
    "saturation": saturation.PROOFS,
    "monitoring": monitoring.PROOFS,
    "outside": outside.PROOFS,
    "postgres": postgres.PROOFS,
    "disk": disk.PROOFS,
}


def proofs(objectives: Objectives) -> Mapping[str, Sequence[Proof]]:
    """Every proof, by the file of its alert."""
    budgets = {f"slo-{slo.name}": tuple(burning.proofs(slo, objectives)) for slo in objectives.slos}
    return {**budgets, **_CAUSES}


def render(objectives: Objectives) -> Mapping[str, str]:
    """A file of tests for each file of alerts."""
    rules = {
        name: [rule for group in groups for rule in group.rules if isinstance(rule, Alerting)]
        for name, groups in groups_by_file(objectives).items()
    }
    return {
        f"observability/alerts/tests/{name}.test.yml": _file(name, found, rules[name])
        for name, found in proofs(objectives).items()
    }


def _file(name: str, found: Sequence[Proof], rules: Sequence[Alerting]) -> str:
    recorded = [f"../../prometheus/rules/{name}.yml"] if name.startswith("slo-") else []
    document = {
        "rule_files": [*recorded, f"../{name}.rules.yml"],
        "evaluation_interval": "1m",
        "tests": [test for proof in found for test in _tests(proof, rules)],
    }
    return HEADER + yaml.safe_dump(document, sort_keys=False, width=1000, allow_unicode=True)


def _tests(proof: Proof, rules: Sequence[Alerting]) -> list[dict[str, Any]]:
    checks: list[tuple[str | None, Sequence[Expected]]] = [
        (proof.pending, ()),
        (proof.at, proof.expect),
        (proof.clear, ()),
    ]
    name = " ".join(filter(None, (proof.alert, proof.what)))
    tests = [_test(f"{name}: fires and clears", proof, proof.fires, checks, rules)]
    if proof.below is not None:
        silent = [(proof.at, ()), (proof.clear, ())]
        tests.append(_test(f"{name}: silent just below", proof, proof.below, silent, rules))
    return tests


def _test(
    name: str,
    proof: Proof,
    samples: Samples,
    checks: Sequence[tuple[str | None, Sequence[Expected]]],
    rules: Sequence[Alerting],
) -> dict[str, Any]:
    timed = [(at, expected) for at, expected in checks if at is not None]
    told = [(at, expected) for at, expected in timed if all(one.description is not None for one in expected)]
    seen = [(at, expected) for at, expected in timed if (at, expected) not in told]
    test: dict[str, Any] = {
        "name": name,
        "interval": proof.interval,
        "external_url": EXTERNAL_URL,
        "input_series": [{"series": series, "values": values} for series, values in samples.items()],
        "alert_rule_test": [
            {
                "eval_time": at,
                "alertname": proof.alert,
                "exp_alerts": [_alert(proof.alert, one, rules) for one in expected],
            }
            for at, expected in told
        ],
    }
    if seen:
        test["promql_expr_test"] = [_seen(proof.alert, at, expected) for at, expected in seen]
    return test


def _seen(alert: str, at: str, expected: Sequence[Expected]) -> dict[str, Any]:
    """Exactly these alerts fire, whatever they say."""
    samples = [{"labels": f'{{long="{one.labels["long"]}",severity="{one.severity}"}}', "value": 1} for one in expected]
    query = f'count by (long, severity) (ALERTS{{alertname="{alert}",alertstate="firing"}})'
    return {"expr": query, "eval_time": at, "exp_samples": samples}


def _alert(alert: str, expected: Expected, rules: Sequence[Alerting]) -> dict[str, Any]:
    rule = _rule(alert, expected, rules)
    constant = {name: text.replace("{{ $externalURL }}", EXTERNAL_URL) for name, text in rule.annotations.items()}
    return {
        "exp_labels": {**expected.labels, **rule.labels},
        "exp_annotations": {**constant, "description": expected.description},
    }


def _rule(alert: str, expected: Expected, rules: Sequence[Alerting]) -> Alerting:
    for rule in rules:
        same_window = rule.labels.get("long") == expected.labels.get("long")
        if rule.alert == alert and rule.labels["severity"] == expected.severity and same_window:
            return rule
    raise LookupError(f"{alert} has no rule of severity {expected.severity}")
