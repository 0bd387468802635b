"""What chooses pods by their labels chooses some, and the right ones."""

from __future__ import annotations

from collections.abc import Iterator

from tests.k8s.cluster import Cluster, matches, title
from tests.k8s.rendering import Object


def selectors(cluster: Cluster) -> Iterator[str]:
    """Every selector of Services, disruption budgets, monitors and network policies chooses pods."""
    for one in cluster.of("Service"):
        if not cluster.chosen({"matchLabels": one["spec"]["selector"]}):
            yield f"{title(one)} selects no pods"
    for one in cluster.of("PodDisruptionBudget", "PodMonitor"):
        if not cluster.chosen(one["spec"]["selector"]):
            yield f"{title(one)} selects no pods"
    for one in cluster.of("NetworkPolicy"):
        yield from _network_policy(one, cluster)


def _network_policy(one: Object, cluster: Cluster) -> Iterator[str]:
    if not cluster.chosen(one["spec"]["podSelector"]):
        yield f"{title(one)} selects no pods"
    for rule in (*one["spec"].get("ingress", ()), *one["spec"].get("egress", ())):
        for peer in (*rule.get("from", ()), *rule.get("to", ())):
            here = "podSelector" in peer and "namespaceSelector" not in peer
            if here and not cluster.chosen(peer["podSelector"]):
                yield f"{title(one)} has a peer that selects no pods"


def workloads(cluster: Cluster) -> Iterator[str]:
    """Every workload selects its own pods and no other's, and spreads them over nodes and zones."""
    for one in cluster.of("Deployment", "StatefulSet"):
        selector = one["spec"]["selector"]
        chosen = {pods.title for pods in cluster.chosen(selector)}
        if chosen != {title(one)}:
            yield f"{title(one)} selects the pods of {', '.join(sorted(chosen)) or 'nothing'}"
        labels = one["spec"]["template"]["metadata"]["labels"]
        for spread in one["spec"]["template"]["spec"].get("topologySpreadConstraints", ()):
            if not matches(spread["labelSelector"], labels):
                yield f"{title(one)} spreads other pods than its own over {spread['topologyKey']}"
    for pods in cluster.pods:
        keys = {spread["topologyKey"] for spread in pods.spec.get("topologySpreadConstraints", ())}
        wanted = {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
        if pods.command in {"serve", "worker"} and not wanted <= keys:
            yield f"{pods.title} is not spread over {', '.join(sorted(wanted - keys))}"


def budgets(cluster: Cluster) -> Iterator[str]:
    """Whatever may have several pods has one disruption budget, which leaves a drain something to evict."""
    for pods in cluster.pods:
        found = [one for one in cluster.of("PodDisruptionBudget") if matches(one["spec"]["selector"], pods.labels)]
        if pods.lasting and cluster.max_pods(pods) > 1 and len(found) != 1:
            yield f"{pods.title} has {len(found)} disruption budgets"
    for one in cluster.of("PodDisruptionBudget"):
        if one["spec"].get("maxUnavailable") != 1:
            yield f"{title(one)} does not let one pod go at a time"
