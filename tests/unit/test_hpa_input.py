"""What the HPA model reads: quantities, specs and scenarios, and how it refuses what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loadtest.errors import BadInput
from loadtest.hpa.decide import decide
from loadtest.hpa.quantity import milli
from loadtest.hpa.spec import DEFAULT_DOWN, DEFAULT_UP, SECOND, Behavior, Metric, Policy, Rules, Spec, read_spec

ROOT = Path(__file__).parents[2]
CPU = {
    "type": "Resource",
    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}},
}
SCENARIO: dict[str, Any] = {
    "id": "a", "spec": {"minReplicas": 1, "maxReplicas": 10, "metrics": [CPU]}, "replicas": 2, "request_cpu": "250m",
    "seconds": 30, "load": [{"cpu_m": 700}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("written", "thousandths"),
    [
        ("1", 1000), ("250m", 250), ("512Mi", 536870912000), ("1.5", 1500), ("1.", 1000), (".5", 500), ("1e3", 10**6),
        ("1E3", 10**6), ("1E+3", 10**6), ("1e-3", 1), ("1e-4", 1), ("1n", 1), ("1u", 1), ("1500u", 2), ("999n", 1),
        ("1k", 10**6), ("1Ki", 1024000), ("1M", 10**9), ("1Gi", 1073741824000), ("1P", 10**18), ("+5", 5000),
        ("-1500u", -2), ("0.001Ki", 1024), ("1.1Mi", 1153433600), ("12.345m", 13), ("007", 7000), ("-0", 0),
        (10, 10_000), (1.5, 1500), (" 5 ", 5000), ("9223372036854775", 9223372036854775000),
    ],
)  # fmt: skip
def test_quantities_are_read_as_kubernetes_reads_them(written: object, thousandths: int) -> None:
    """Thousandths, rounded up, equal those of Kubernetes' own parser (which printed these)."""
    assert milli(written) == thousandths


@pytest.mark.parametrize(
    "written",
    ["", "1K", "1ki", "1KI", "1e", "1Pi1", "1mm", "1m3", "1_000", "0x10", "infinity", "1e3m", "1ee3", "1.2.3", "--5",
     "१", ".", True, None, [1], "9223372036854775807", "10Ei", "1e99", "1e400000000", "9" * 99, float("nan")],
)  # fmt: skip
def test_what_is_no_quantity_is_refused(written: object) -> None:
    """What Kubernetes refuses, or would let overflow, is an error that fits on a line."""
    with pytest.raises(ValueError, match=r"^[^\n]{10,150}$"):
        milli(written)


def test_defaults_are_the_api_servers() -> None:
    """Without metrics it is CPU at 80 % and at least 1 pod; an empty behavior has both rules with their defaults."""
    plain = Spec(minimum=1, maximum=5, metrics=(Metric("Resource", "cpu", "Utilization", 80),))

    assert read_spec({"maxReplicas": 5}) == plain
    assert read_spec({"maxReplicas": 5, "metrics": None, "behavior": {}}).behavior == Behavior(DEFAULT_UP, DEFAULT_DOWN)


def test_a_whole_manifest_is_read() -> None:
    """Kind, metadata and target are accepted; rules replace the defaults one by one."""
    behavior = {
        "scaleDown": {"stabilizationWindowSeconds": 60, "policies": [{"type": "Pods", "value": 2, "periodSeconds": 90}]}
    }
    manifest = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "api"},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "api"}, "maxReplicas": 5, "behavior": behavior},
    }
    down = Rules("Max", 60 * SECOND, (Policy("Pods", 2, 90 * SECOND),))
    assert read_spec(manifest).behavior == Behavior(DEFAULT_UP, down)


def refusal(change: dict[str, Any]) -> str:
    """Return the message for a spec with that change."""
    with pytest.raises(BadInput) as caught:
        read_spec({**SCENARIO["spec"], **change})
    return str(caught.value)


def source(kind: str, target: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return the metrics of a spec with one source."""
    named = {"name": "cpu"} if kind == "Resource" else {"metric": {"name": "depth"}}
    return {"metrics": [{"type": kind, kind.lower(): {**named, "target": target, **fields}}]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"minReplicas": 11}, "minReplicas 11 is above maxReplicas 10: raise the latter"),
        ({"minReplicas": 0}, "field minReplicas: Expected `int` >= 1"),
        ({"maxReplicas": "10"}, "field maxReplicas: Expected `int`, got `str`"),
        ({"maxReplica": 3}, "field maxReplica is not a field here: correct its name or remove it"),
        ({"metrics": [{"type": "Object"}]}, "field metrics[0]: metric type Object is not supported by this model: use"),
        ({"metrics": [{"type": "ContainerResource"}]}, "metric type ContainerResource is not supported"),
        ({"metrics": [{"type": "Podz"}]}, "field metrics[0]: metric type 'Podz' is unknown"),
        ({"metrics": [{"type": "Pods"}]}, "a metric of type Pods needs the field pods and no other source"),
        (
            {"metrics": [{**CPU, "object": {}}]},
            "a metric of type Resource needs the field resource and no other source",
        ),
        (source("Resource", {"type": "Value", "value": "1"}), "exactly one of: averageUtilization, averageValue"),
        (source("External", {"type": "Value"}), "exactly one of: value, averageValue"),
        (
            source("External", {"type": "Value", "value": "1", "averageValue": "1"}),
            "exactly one of: value, averageValue",
        ),
        (
            source("External", {"type": "Value", "value": "1x"}),
            "external.target.value: '1x' is no quantity: write it like",
        ),
        (
            source("External", {"type": "Value", "value": "0"}),
            "field metrics[0].external.target: value must be above 0",
        ),
        (
            source("Resource", {"type": "Utilization", "averageUtilization": 0}),
            "averageUtilization: Expected `int` >= 1",
        ),
        (
            {"behavior": {"scaleUp": {"selectPolicy": "Most"}}},
            "field behavior.scaleUp.selectPolicy: Invalid enum value",
        ),
        (
            {"behavior": {"scaleUp": {"policies": []}}},
            "field behavior.scaleUp.policies: Expected `array` of length >= 1",
        ),
        (
            {"behavior": {"scaleUp": {"tolerance": "0.1"}}},
            "field behavior.scaleUp: tolerance is off in Kubernetes 1.34",
        ),
        ({"behavior": {"scaleDown": {"stabilizationWindowSeconds": 3601}}}, "Expected `int` <= 3600"),
    ],
)
def test_a_wrong_spec_is_refused(change: dict[str, Any], message: str) -> None:
    """One line names the field and what is wrong with it."""
    found = refusal(change)

    assert message in found
    assert "\n" not in found


def test_another_kind_is_refused() -> None:
    """A manifest that is no HorizontalPodAutoscaler of autoscaling/v2 says what it is."""
    with pytest.raises(BadInput, match="Deployment of apps/v1 is no HorizontalPodAutoscaler of autoscaling/v2"):
        read_spec({"apiVersion": "apps/v1", "kind": "Deployment"})


def without(name: str) -> dict[str, Any]:
    """Return the scenario without a field."""
    return {key: value for key, value in SCENARIO.items() if key != name}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[]", "line 2: Expected `object`, got `array`"),
        *[(json.dumps(without(name)), f"line 2: field {name} is missing: add it")
          for name in ("load", "spec", "replicas", "seconds")],
        (json.dumps({**SCENARIO, "load": []}), "line 2: field load: Expected `array` of length >= 1"),
        (json.dumps({**SCENARIO, "secs": 1}), "line 2: field secs is not a field here"),
        (json.dumps({**SCENARIO, "request_cpu": "lots"}), "line 2: field request_cpu: 'lots' is no quantity"),
        (json.dumps({**SCENARIO, "sync": 0}), "line 2: field sync: Expected `float` >= 0.001"),
        (json.dumps({**SCENARIO, "seconds": 1e9, "sync": 1}), "line 2: seconds / sync is above 1000000 syncs"),
        ('{"id": "\udcff"}', "line 2: not JSON"),
        ("[" * 100_000, "line 2: not JSON"),
        (json.dumps({"scenario": {**SCENARIO, "spec": {"maxReplicas": 1, "minReplicas": 2}}}), "line 2: field spec: "),
    ],
)  # fmt: skip
def test_a_wrong_scenario_is_refused_with_its_line(line: str, message: str) -> None:
    """The lines before it are answered; the message is one line that names the line and the field."""
    written: list[str] = []
    with pytest.raises(BadInput) as caught:
        decide([json.dumps(SCENARIO), line], written.append)

    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert len(written) == 1


def test_more_pods_than_a_cluster_has_are_refused() -> None:
    """A policy and a limit that ask for millions of pods end with a message instead of filling the memory."""
    metric = {"type": "External", "external": {"metric": {"name": "q"}, "target": {"type": "Value", "value": "1m"}}}
    rules = {"policies": [{"type": "Pods", "value": 10**9, "periodSeconds": 1}]}
    spec = {"maxReplicas": 10**9, "metrics": [metric], "behavior": {"scaleUp": rules}}
    line = json.dumps({**SCENARIO, "spec": spec, "load": [{"external_m": {"q": 10**8}}]})

    with pytest.raises(BadInput, match=r"^line 1: \d+ replicas are more than the 150000 pods of a cluster"):
        decide([line], list[str]().append)


def test_a_scenario_is_answered_on_one_line() -> None:
    """Bare and wrapped scenarios give the same line; empty lines are skipped."""
    written: list[str] = []
    decide([json.dumps(SCENARIO), "\n", json.dumps({"scenario": SCENARIO, "decisions": []})], written.append)
    decisions = [
        {"t": 15, "current": 2, "desired": 4, "ready": 2, "why": "DesiredWithinRange"},
        {"t": 30, "current": 4, "desired": 4, "ready": 4, "why": "DesiredWithinRange"},
    ]

    assert json.loads(written[0]) == {"id": "a", "decisions": decisions}
    assert written[0] == written[1]


@pytest.mark.parametrize(("line", "status"), [(json.dumps(SCENARIO).encode(), 0), (b"{}", 2), (b"\xff", 2)])
def test_the_program_ends_with_0_or_2(line: bytes, status: int) -> None:
    """Answers go to standard output with 0; wrong input is one line on standard error with 2."""
    command = [sys.executable, "-m", "loadtest.hpa.decide"]
    ended = subprocess.run(command, input=line, capture_output=True, check=False, cwd=ROOT)

    assert ended.returncode == status
    assert len((ended.stderr if status else ended.stdout).splitlines()) == 1
    assert (ended.stdout if status else ended.stderr) == b""
