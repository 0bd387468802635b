"""What may speak to what."""

from __future__ import annotations

from collections.abc import Iterator

from tests.k8s.cluster import Cluster, Pods, matches, title
from tests.k8s.rendering import Object

FORBIDDEN_BLOCKS = {"0.0.0.0/0": "169.254.0.0/16", "::/0": "fe80::/10"}
"""A rule for all addresses has to leave out a cloud's metadata service."""


def network(cluster: Cluster) -> Iterator[str]:
    """Nothing is allowed unless a policy says so, and each says to whom and on which ports."""
    everything = [one for one in cluster.of("NetworkPolicy") if one["spec"]["podSelector"] == {}]
    if [sorted(one["spec"].get("policyTypes", ())) for one in everything] != [["Egress", "Ingress"]]:
        yield "no policy denies what no other allows"
    for one in cluster.of("NetworkPolicy"):
        for rule in (*one["spec"].get("ingress", ()), *one["spec"].get("egress", ())):
            peers = [*rule.get("from", ()), *rule.get("to", ())]
            if not peers or not rule.get("ports") or not all(peers):
                yield f"{title(one)} has a rule for everybody or for every port"
            for block in (peer["ipBlock"] for peer in peers if "ipBlock" in peer):
                wide = FORBIDDEN_BLOCKS.get(block["cidr"])
                if wide and wide not in block.get("except", ()):
                    yield f"{title(one)} lets pods reach {wide}"


def flows(cluster: Cluster, pods: Pods) -> dict[str, set[str]]:
    """What those pods may take in and send out, as "peer:port"."""
    found: dict[str, set[str]] = {"in": set(), "out": set()}
    for one in cluster.of("NetworkPolicy"):
        if not matches(one["spec"]["podSelector"], pods.labels):
            continue
        for direction, rules, peers in (("in", "ingress", "from"), ("out", "egress", "to")):
            for rule in one["spec"].get(rules, ()):
                ports = [str(port["port"]) for port in rule["ports"]]
                found[direction] |= {f"{_peer(peer)}:{port}" for peer in rule[peers] for port in ports}
    return found


def _peer(peer: Object) -> str:
    if "ipBlock" in peer:
        return str(peer["ipBlock"]["cidr"])
    space = peer.get("namespaceSelector", {}).get("matchLabels", {}).get("kubernetes.io/metadata.name", "")
    labels = peer.get("podSelector", {}).get("matchLabels", {})
    return "/".join(part for part in (space, *labels.values()) if part)
