"""The README's commands bring the migration, and all that it needs, before the pods."""

from __future__ import annotations

import re

import pytest

from tests.k8s.cluster import COMPONENT, Cluster, matches, title
from tests.k8s.conftest import Rendered
from tests.k8s.policies.references import references, volumes
from tests.k8s.rendering import K8S, ROOT, Object

COMMAND = re.compile(r"kubectl apply --server-side -k k8s/overlays/production -l '(\S+) notin \(([^)]*)\)'")
PODS = {"Deployment/feature-agent-api", "Deployment/feature-agent-worker"}


def before_the_rollout(objects: list[Object]) -> list[Object]:
    """What the first command applies."""
    found = COMMAND.search((K8S / "README.md").read_text())
    assert found is not None
    selector = {"matchExpressions": [{"key": found[1], "operator": "NotIn", "values": found[2].split(", ")}]}
    return [one for one in objects if matches(selector, one["metadata"].get("labels", {}))]


@pytest.mark.parametrize("name", ["overlays/local", "overlays/production"])
def test_the_migration_comes_first(rendered: Rendered, name: str) -> None:
    """The first command has the Job, its settings, secrets, account and policies, and touches no pod of the service."""
    everything = Cluster(rendered(name))
    first = Cluster(before_the_rollout(everything.objects))
    assert not PODS & {title(one) for one in first.objects}
    assert {title(one) for one in everything.objects} >= PODS
    assert "Job/feature-agent-migrate" in {title(one) for one in first.objects}
    assert "Namespace/feature-agent" in {title(one) for one in first.objects}
    missing = [fault for fault in (*references(first), *volumes(first)) if "never used" not in fault]
    assert missing == []
    policies = {title(one) for one in everything.of("NetworkPolicy")}
    assert {title(one) for one in first.of("NetworkPolicy")} == policies


def test_both_documents_say_the_same() -> None:
    """The three commands of the main README are those of k8s/README.md."""
    blocks = [
        next(block for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) if COMMAND.search(block))
        for text in ((ROOT / "README.md").read_text(), (K8S / "README.md").read_text())
    ]
    assert blocks[0] == blocks[1]
    assert len(blocks[0].splitlines()) == 3
    assert COMPONENT in blocks[0]
