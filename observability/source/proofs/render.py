"""Proofs as promtool's unit tests: the annotations that never change are the rule's own, the rest is as expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from msgspec.structs import replace

from observability.source.alerts import groups_by_file
from observability.source.durations import seconds_of, written
from observability.source.links import filled
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
        "evaluation_interval": min((proof.interval for proof in found), key=seconds_of, default="1m"),
        "tests": [test for proof in found for test in _tests(proof, rules)],
    }
    return HEADER + yaml.safe_dump(document, sort_keys=False, width=1000, allow_unicode=True)


def _tests(proof: Proof, rules: Sequence[Alerting]) -> list[dict[str, Any]]:
    checks: list[tuple[str | None, Sequence[Expected]]] = [
        (proof.pending, ()),
        (proof.at, proof.expect),
        (proof.kept, [replace(one, description=None) for one in proof.expect]),
        (proof.clear if proof.quiet is None else None, ()),
    ]
    name = " ".join(filter(None, (proof.alert, proof.what)))
    tests = [_test(f"{name}: fires and clears", proof, proof.fires, checks, rules)]
    if proof.quiet is not None:
        severities = {one.severity for one in proof.expect}
        tests[0].setdefault("promql_expr_test", []).append(_quiet(proof, severities))
    if proof.below is not None:
        silent = [(proof.at, ()), (proof.clear, ())]
        tests.append(_test(f"{name}: silent just below", proof, proof.below, silent, rules))
        tests[-1]["promql_expr_test"] = [_never(proof)]
    return tests


def _never(proof: Proof) -> dict[str, Any]:
    """It has not fired at any time."""
    return _silent(f'alertname="{proof.alert}"', "0m", str(proof.clear))


def _quiet(proof: Proof, severities: set[str]) -> dict[str, Any]:
    """Once cleared it does not come back with a severity that it had."""
    matchers = f'alertname="{proof.alert}",severity=~"{"|".join(sorted(severities))}"'
    return _silent(matchers, str(proof.clear), str(proof.quiet))


def _silent(matchers: str, since: str, until: str) -> dict[str, Any]:
    """Nothing fires between two times."""
    window = written(seconds_of(until) - seconds_of(since))
    return {
        "expr": f'count(count_over_time(ALERTS{{{matchers},alertstate="firing"}}[{window}]))',
        "eval_time": until,
        "exp_samples": [],
    }


def _test(
    name: str,
    proof: Proof,
    samples: Samples,
    checks: Sequence[tuple[str | None, Sequence[Expected]]],
    rules: Sequence[Alerting],
) -> dict[str, Any]:
    timed = [(at, expected) for at, expected in checks if at is not None]
    described = [(at, expected) for at, expected in timed if all(one.description is not None for one in expected)]
    seen = [(at, expected) for at, expected in timed if (at, expected) not in described]
    test: dict[str, Any] = {
        "name": name,
        "interval": proof.interval,
        "external_url": EXTERNAL_URL,
        "input_series": [{"series": series, "values": values} for series, values in samples.items()],
        "alert_rule_test": [
            {
                "eval_time": at,
                "alertname": proof.alert,
                "exp_alerts": [_alert(proof.alert, one, rules, at) for one in expected],
            }
            for at, expected in described
        ],
    }
    if seen:
        test["promql_expr_test"] = [_seen(proof.alert, at, expected) for at, expected in seen]
    return test


def _seen(alert: str, at: str, expected: Sequence[Expected]) -> dict[str, Any]:
    """Exactly these alerts of their severities fire, whatever they say."""
    severities = "|".join(sorted({one.severity for one in expected}))
    query = f'count by (long, severity) (ALERTS{{alertname="{alert}",severity=~"{severities}",alertstate="firing"}})'
    return {"expr": query, "eval_time": at, "exp_samples": [_counted(one) for one in expected]}


def _counted(one: Expected) -> dict[str, Any]:
    labels = {"long": one.labels.get("long"), "severity": one.severity}
    matchers = ",".join(f'{name}="{value}"' for name, value in labels.items() if value is not None)
    return {"labels": f"{{{matchers}}}", "value": 1}


def _alert(alert: str, expected: Expected, rules: Sequence[Alerting], at: str) -> dict[str, Any]:
    rule = _rule(alert, expected, rules)
    constant = {name: filled(text, EXTERNAL_URL, seconds_of(at)) for name, text in rule.annotations.items()}
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
