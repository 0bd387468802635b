"""A real API server takes every object, without a warning. Runs where KUBECONFIG names a cluster."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
import yaml

from tests.k8s.cluster import Cluster, title
from tests.k8s.conftest import Rendered
from tests.k8s.mutations import container, put, spec
from tests.k8s.rendering import EVERYTHING, Object, kubectl

pytestmark = pytest.mark.proof
NAMESPACES = ("feature-agent", "monitoring")


def run(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """One command of kubectl, its words kept."""
    return subprocess.run(
        [kubectl(), *arguments], input=given, capture_output=True, text=True, check=False, timeout=100
    )


@pytest.fixture(scope="module")
def known() -> set[tuple[str, str]]:
    """The kinds that the cluster has, with their versions; its namespaces are made first."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG names no cluster")
    found: set[tuple[str, str]] = set()
    versions = run("api-versions")
    assert versions.returncode == 0, versions.stderr
    for version in versions.stdout.split():
        path = f"/api/{version}" if "/" not in version else f"/apis/{version}"
        answer = run("get", "--raw", path)
        if answer.returncode == 0:
            found |= {(version, one["kind"]) for one in json.loads(answer.stdout)["resources"]}
    return found


@pytest.fixture(scope="module")
def namespaces(known: set[tuple[str, str]], rendered: Rendered) -> None:
    """The namespaces and the service account, for real: without them the server refuses even to try."""
    base = Cluster(rendered("base"))
    monitoring = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "monitoring"}}
    own = (base.get("Namespace", "feature-agent"), base.get("ServiceAccount", "feature-agent"))
    for one in (monitoring, *own):
        made = run("apply", "--server-side", "--field-manager=tests", "-f", "-", given=yaml.safe_dump(one))
        assert made.returncode == 0, made.stderr


def refused(objects: list[Object]) -> str:
    """What the server says against them, warnings included; empty when it would take them."""
    done = run(
        "apply", "--server-side", "--dry-run=server", "--field-manager=tests", "--validate=strict", "-f", "-",
        given=yaml.safe_dump_all(objects),
    )  # fmt: skip
    return done.stderr if done.returncode or "Warning:" in done.stderr else ""


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("name", EVERYTHING)
def test_the_server_takes_it(rendered: Rendered, known: set[tuple[str, str]], name: str) -> None:
    """Every object whose kind the cluster has is admitted without a warning; the kinds that it lacks are named."""
    objects = rendered(name)
    there = [_unlike_any(one) for one in objects if (one["apiVersion"], one["kind"]) in known]
    lacking = sorted({one["kind"] for one in objects} - {one["kind"] for one in there})
    if lacking:
        print(f"{name}: the cluster has no {', '.join(lacking)}")  # noqa: T201 -- what was not checked
    assert there
    assert refused(there) == ""


def _unlike_any(one: Object) -> Object:
    """A Job under another name: one that is there cannot be changed, nor be tried out as changed."""
    if one["kind"] == "Job":
        one["metadata"]["name"] += "-tried"
    return one


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("name", EVERYTHING)
def test_the_server_takes_its_pods(rendered: Rendered, name: str) -> None:
    """Each pod that a workload would make is admitted: of a workload Pod Security only warns, a pod it refuses."""
    pods = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"tried-{number}", "namespace": "feature-agent", "labels": dict(one.labels)},
            "spec": _with_claims(one.spec, one.owner),
        }
        for number, one in enumerate(Cluster(rendered(name)).pods)
    ]
    assert pods
    assert refused(pods) == ""


def _with_claims(pod: Object, owner: Object) -> Object:
    """The pod with the volumes that a StatefulSet would add."""
    claims = [claim["metadata"]["name"] for claim in owner["spec"].get("volumeClaimTemplates", ())]
    volumes = [{"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in claims]
    return {"restartPolicy": "Always", **pod, "volumes": [*pod["volumes"], *volumes]}


BROKEN = {
    "a pod that Pod Security refuses": put(
        lambda c: container(c)["securityContext"], "allowPrivilegeEscalation", value=True
    ),
    "bounds crossed": put(lambda c: spec(c, "HorizontalPodAutoscaler"), "minReplicas", 11),
    "a request above its limit": put(lambda c: container(c)["resources"]["requests"], "cpu", "2"),
    "a misspelt member": put(lambda c: spec(c, "Deployment"), "replica", 3),
    "an hour there is not": put(lambda c: spec(c, "CronJob", "feature-agent-backup"), "schedule", "17 25 * * *"),
    "no way to roll out": put(lambda c: spec(c, "Deployment")["strategy"]["rollingUpdate"], "maxSurge", 0),
}


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("name", BROKEN)
def test_the_server_refuses_what_is_broken(rendered: Rendered, name: str) -> None:
    """What schemas let pass, the server refuses or warns of: the check above can fail."""
    cluster = Cluster(rendered("base"))
    BROKEN[name](cluster)
    assert refused([one for one in cluster.objects if one["kind"] != "Namespace"]), title(cluster.objects[0])
