"""What kubectl says of a cluster is read and noted, and what it does not say is bad input in one line."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from loadtest.errors import BadInput
from loadtest.running import Target, new_run_id
from loadtest.scaling import cluster as module
from loadtest.scaling.cluster import Kubectl, Watcher, prove_in_cluster, read_cluster
from loadtest.traffic.plan import Options
from tests.unit.scaling_fixtures import API, RUN

LABELS = {"app.kubernetes.io/name": "feature-agent", "app.kubernetes.io/component": "api"}
CONTAINER = {"resources": {"requests": {"cpu": "250m", "memory": "320Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}}}
METRICS = [
    {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 140, "averageValue": "350m"}}},
    {"type": "Resource", "resource": {"name": "memory", "current": {"averageUtilization": 40}}},
    {"type": "Pods", "pods": {"metric": {"name": "api_requests_in_flight"}, "current": {"averageValue": "2500m"}}},
]
SCRIPT = """#!/bin/sh
echo "$@" >> "$(dirname "$0")/asked"
case "$*" in
  *"get hpa,deployments,pods"*) cat "$(dirname "$0")/all" ;;
  *"get hpa"*) cat "$(dirname "$0")/hpa" ;;
  *"get deployment"*) cat "$(dirname "$0")/deployment" ;;
  *"get pods"*) cat "$(dirname "$0")/pods" ;;
  *version*) test -e "$(dirname "$0")/version" && exec cat "$(dirname "$0")/version"; echo "error: no such
thing" >&2; exit 1 ;;
  *) echo "error: no such\nthing" >&2; exit 1 ;;
esac
"""


def deployment(replicas: int) -> dict[str, Any]:
    """The Deployment as the API server has it."""
    pod = {"containers": [CONTAINER], "terminationGracePeriodSeconds": 60}
    spec = {"replicas": replicas, "selector": {"matchLabels": LABELS}, "template": {"spec": pod}}
    return {"metadata": {"name": "feature-agent-api", "labels": LABELS}, "spec": spec}


def pod(name: str, *, ready: bool = True, leaving: bool = False) -> dict[str, Any]:
    """A pod of the Deployment."""
    metadata = {"name": name, "labels": LABELS, **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if leaving else {})}
    return {"metadata": metadata, "status": {"conditions": [{"type": "Ready", "status": str(ready)}]}}


Write = Callable[..., None]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Put a kubectl in place whose answers a test writes."""
    program = tmp_path / "kubectl"
    program.write_text(SCRIPT, encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("KUBECTL_BIN", str(program))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))

    def write(**answers: Any) -> None:
        for name, answer in answers.items():
            (tmp_path / name).write_text(json.dumps(answer), encoding="utf-8")
        names = ("hpa", "deployment", "pods")
        kept = {name: json.loads((tmp_path / name).read_text(encoding="utf-8")) for name in names}
        named = {"metadata": {"name": "feature-agent-api"}}
        autoscaler = {"kind": "HorizontalPodAutoscaler", **named, **kept["hpa"]}
        others = {"kind": "Pod", "metadata": {"name": "of-another", "labels": {}}}
        pods = [{"kind": "Pod", **one} for one in kept["pods"]["items"]]
        objects = [autoscaler, {"kind": "Deployment", **kept["deployment"]}, others, *pods]
        (tmp_path / "all").write_text(json.dumps({"items": objects}), encoding="utf-8")

    write(hpa={"spec": API.autoscaler}, deployment=deployment(3), pods={"items": []})
    return write


@pytest.mark.usefixtures("cluster")
def test_a_cluster_is_read_like_its_manifests() -> None:
    """Requests, limits, grace, component and the autoscaler's numbers are those of k8s/base when it was applied."""
    found = read_cluster(Kubectl("feature-agent"), "feature-agent-api")
    assert found == replace(API, pre_stop_seconds=0.0, settings={})


def test_a_tolerance_that_the_server_added_is_left_out(cluster: Write) -> None:
    """The model refuses a tolerance, which a newer API server writes into the rules."""
    rules = API.autoscaler["behavior"]
    behavior = {way: {**one, "tolerance": "100m"} for way, one in rules.items()}
    cluster(hpa={"spec": {**API.autoscaler, "behavior": behavior}})
    assert read_cluster(Kubectl("a"), "feature-agent-api").spec() == API.spec()


def test_the_namespace_is_asked_for_json(cluster: Write, tmp_path: Path) -> None:
    """Every question names the namespace and the format."""
    Kubectl("elsewhere").get("get", "hpa", "x")
    assert (tmp_path / "asked").read_text(encoding="utf-8") == "--namespace elsewhere get hpa x -o json\n"


def test_a_look_reads_the_current_metrics(cluster: Write) -> None:
    """CPU and memory are shares of the request, requests in flight a quantity, and pods that leave are not ready."""
    cluster(
        hpa={"spec": API.autoscaler, "status": {"currentMetrics": METRICS}},
        pods={"items": [pod("a"), pod("b", ready=False), pod("c", leaving=True)]},
    )
    watcher = Watcher(Kubectl("a"), API, lambda _: None)
    watcher.look()
    [seen] = watcher.looks
    assert (seen.current, seen.desired, seen.ready) == (3, 3, 1)
    assert (seen.cpu_share, seen.memory_share, seen.in_flight) == (1.4, 0.4, 2.5)
    assert [one.what for one in watcher.happenings] == ["a ready", "b starts", "c leaves"]


def test_an_autoscaler_without_a_status_has_no_metrics(cluster: Write) -> None:
    """Before its first sync, and with metrics of null, all of them are 0."""
    cluster(hpa={"spec": API.autoscaler, "status": {"currentMetrics": None}})
    watcher = Watcher(Kubectl("a"), API, lambda _: None)
    watcher.look()
    assert (watcher.looks[0].cpu_share, watcher.looks[0].in_flight) == (0.0, 0.0)


def test_changes_of_replicas_and_pods_are_noted_once(cluster: Write) -> None:
    """A change is noted when it is seen first, and a pod that is not listed any more is gone."""
    said: list[object] = []
    watcher = Watcher(Kubectl("a"), API, said.append)
    cluster(pods={"items": [pod("a")]})
    watcher.look()
    cluster(deployment=deployment(6), pods={"items": [pod("a"), pod("b", ready=False)]})
    watcher.look()
    watcher.look()
    cluster(deployment=deployment(4), pods={"items": [pod("b")]})
    watcher.look()
    assert [(one.current, one.desired) for one in watcher.looks] == [(3, 3), (3, 6), (6, 6), (6, 4)]
    assert [one.what for one in watcher.happenings] == [
        "a ready", "3 -> 6 pods", "b starts", "6 -> 4 pods", "b ready", "a gone",
    ]  # fmt: skip
    assert said == ["3 -> 6 pods (CPU 0 % of the request)", "6 -> 4 pods (CPU 0 % of the request)"]


def test_a_missing_kubeconfig_is_named(cluster: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cluster is asked that was not named."""
    monkeypatch.delenv("KUBECONFIG")
    with pytest.raises(BadInput, match=r"^KUBECONFIG: is not set: name the file"):
        Kubectl("a")


def test_a_missing_kubectl_is_named(cluster: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither on PATH nor in KUBECTL_BIN, or a name there that is wrong."""
    monkeypatch.setenv("KUBECTL_BIN", str(tmp_path / "nothing"))
    with pytest.raises(BadInput, match=r"nothing cannot be run: No such file or directory$"):
        Kubectl("a").get("version")
    monkeypatch.delenv("KUBECTL_BIN")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(BadInput, match=r"^kubectl: is not installed"):
        Kubectl("a")


@pytest.mark.usefixtures("cluster")
def test_a_kubectl_that_fails_is_quoted_on_one_line() -> None:
    """What it wrote to its error output is the message."""
    with pytest.raises(BadInput) as caught:
        Kubectl("a").get("version")
    assert str(caught.value) == "kubectl version: error: no such thing"


def test_an_answer_that_is_no_json_is_bad_input(cluster: Write, tmp_path: Path) -> None:
    """A proxy's page of HTML is no traceback."""
    (tmp_path / "hpa").write_text("<html>", encoding="utf-8")
    with pytest.raises(BadInput, match=r"^kubectl get hpa x: its answer is no JSON: "):
        Kubectl("a").get("get", "hpa", "x")


@pytest.mark.parametrize("field", ["requests", "limits"])
def test_a_deployment_without_resources_is_named(cluster: Write, field: str) -> None:
    """Without requests and limits nothing can be measured in them."""
    spoilt = deployment(3)
    container = spoilt["spec"]["template"]["spec"]["containers"][0]
    resources = {name: value for name, value in container["resources"].items() if name != field}
    spoilt["spec"]["template"]["spec"]["containers"] = [{"resources": resources}]
    cluster(deployment=spoilt)
    with pytest.raises(BadInput, match=rf"^deployment feature-agent-api: lacks '{field}'"):
        read_cluster(Kubectl("a"), "feature-agent-api")


def test_a_container_without_any_resources_is_named(cluster: Write) -> None:
    """A container that says nothing of resources is no traceback."""
    spoilt = deployment(3)
    spoilt["spec"]["template"]["spec"]["containers"] = [{}]
    cluster(deployment=spoilt)
    with pytest.raises(BadInput, match=r"^deployment feature-agent-api: lacks 'resources'"):
        read_cluster(Kubectl("a"), "feature-agent-api")


def test_a_run_in_a_cluster_is_watched_and_judged(
    cluster: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looks before, during and after the load give the path, in seconds since the run began, and the verdict."""
    cluster(version={"serverVersion": {"gitVersion": "v1.34.0"}})

    def load(*_: object) -> object:
        cluster(deployment=deployment(6))
        return replace(RUN, failures={"GET /x answered 502": 2}, began=time.time(), ended=time.time() + 9)

    monkeypatch.setattr(module, "run", load)
    options = Options(shape="tide", run_id=new_run_id(), scenario="x")
    proof = prove_in_cluster(
        Target("http://a", "key"), "a", "feature-agent-api", options, [], tmp_path, say=lambda _: None, min_scale_ins=0
    )
    outcomes = {one.gate: one.outcome for one in proof.checks}
    assert [one.desired for one in proof.seen] == [3, 6]
    assert (outcomes["scaled_out"], outcomes["failed_requests"], outcomes["returned"]) == ("pass", "fail", "fail")
    assert (proof.verdict, proof.failed_requests, proof.requests) == ("fail", 2, 200)
    assert (proof.server, proof.peak) == ("v1.34.0", 10)
    assert all(abs(one.at) < 60 for one in proof.seen)
    assert [one.what for one in proof.happenings] == ["3 -> 6 pods"]
