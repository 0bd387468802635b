"""Mutations of names, selectors, ports and references."""

from __future__ import annotations

from tests.k8s.mutations import (
    API,
    WORKER,
    Mutation,
    container,
    drop,
    forget_issuer,
    pod,
    put,
    remove,
    spec,
    twice,
    unhashed,
)

REFERENCES = (
    Mutation(
        "a Service of nothing",
        "selectors",
        "selects no pods",
        put(lambda c: spec(c, "Service")["selector"], "app.kubernetes.io/component", "apj"),
    ),
    Mutation(
        "a budget of nothing",
        "selectors",
        "selects no pods",
        put(lambda c: spec(c, "PodDisruptionBudget")["selector"]["matchLabels"], "app.kubernetes.io/name", "x"),
    ),
    Mutation(
        "a monitor of nothing",
        "selectors",
        "selects no pods",
        put(lambda c: spec(c, "PodMonitor", "feature-agent")["selector"]["matchLabels"], "app.kubernetes.io/name", "x"),
    ),
    Mutation(
        "a network policy of nothing",
        "selectors",
        "selects no pods",
        put(
            lambda c: spec(c, "NetworkPolicy", "from-ingress-controller")["podSelector"]["matchLabels"],
            "app.kubernetes.io/component",
            "apj",
        ),
    ),
    Mutation(
        "a peer that does not exist",
        "selectors",
        "a peer that selects no pods",
        put(
            lambda c: spec(c, "NetworkPolicy", "to-postgresql")["egress"][0]["to"][0]["podSelector"]["matchLabels"],
            "app.kubernetes.io/name",
            "x",
        ),
    ),
    Mutation(
        "two workloads with one selector",
        "workloads",
        "selects the pods of",
        put(lambda c: spec(c, "Deployment"), "selector", {"matchLabels": {"app.kubernetes.io/name": "feature-agent"}}),
    ),
    Mutation(
        "a spread of other pods",
        "workloads",
        "spreads other pods",
        put(
            lambda c: pod(c)["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
            "app.kubernetes.io/component",
            "worker",
        ),
    ),
    Mutation(
        "no spread over zones",
        "workloads",
        "not spread over topology.kubernetes.io/zone",
        drop(lambda c: pod(c)["topologySpreadConstraints"], 1),
    ),
    Mutation("no budget", "budgets", "has 0 disruption budgets", remove("PodDisruptionBudget", WORKER)),
    Mutation(
        "a budget that lets none go",
        "budgets",
        "one pod go at a time",
        put(lambda c: spec(c, "PodDisruptionBudget"), "maxUnavailable", 0),
    ),
    Mutation(
        "a Service's port misspelt",
        "ports",
        "no port 'htpp'",
        put(lambda c: spec(c, "Service")["ports"][0], "targetPort", "htpp"),
    ),
    Mutation(
        "an Ingress' port misspelt",
        "ports",
        "no Service",
        put(lambda c: spec(c, "Ingress")["rules"][0]["http"]["paths"][0]["backend"]["service"]["port"], "name", "htpp"),
    ),
    Mutation(
        "a monitor's port misspelt",
        "ports",
        "no port 'metric'",
        put(lambda c: spec(c, "PodMonitor", "feature-agent")["podMetricsEndpoints"][0], "port", "metric"),
    ),
    Mutation(
        "a network policy's port misspelt",
        "ports",
        "no port 'htpp'",
        put(lambda c: spec(c, "NetworkPolicy", "from-ingress-controller")["ingress"][0]["ports"][0], "port", "htpp"),
    ),
    Mutation(
        "a probe's port misspelt",
        "ports",
        "asks the port 'htpp'",
        put(lambda c: container(c)["readinessProbe"]["httpGet"], "port", "htpp"),
    ),
    Mutation(
        "a Secret that is nowhere",
        "references",
        "named and nowhere defined",
        put(lambda c: pod(c)["volumes"][0]["secret"], "secretName", "feature-agnet"),
    ),
    Mutation(
        "a Secret that is not used",
        "references",
        "defined and never used",
        put(lambda c: spec(c, "ExternalSecret", "feature-agent")["target"], "name", "x"),
    ),
    Mutation("a ConfigMap without its hash", "references", "'feature-agent-api' is named and nowhere", unhashed),
    Mutation(
        "a ConfigMap that is not used",
        "references",
        "defined and never used",
        drop(lambda c: container(c)["envFrom"], 1),
    ),
    Mutation(
        "a service account that is nowhere",
        "references",
        "ServiceAccount 'x' is named",
        put(pod, "serviceAccountName", "x"),
    ),
    Mutation("a certificate from nowhere", "references", "Secret 'feature-agent-tls' is named", forget_issuer),
    Mutation(
        "a claim that is not used",
        "references",
        "PersistentVolumeClaim",
        put(lambda c: c.get("PersistentVolumeClaim", "feature-agent-artifacts")["metadata"], "name", "x"),
        of="overlays/local",
    ),
    Mutation("a mount of no volume", "volumes", "which is no volume", drop(lambda c: pod(c)["volumes"], 1)),
    Mutation(
        "a volume that is not mounted", "volumes", "never mounts 'tmp'", drop(lambda c: container(c)["volumeMounts"], 2)
    ),
    Mutation(
        "two mounts at one path",
        "volumes",
        "mounts twice at /data",
        put(lambda c: container(c)["volumeMounts"][2], "mountPath", "/data"),
    ),
    Mutation("an object twice", "names", "is there 2 times", twice("Service", API)),
    Mutation(
        "an object in another namespace",
        "names",
        "in no namespace",
        put(lambda c: c.get("Service", API)["metadata"], "namespace", "default"),
    ),
    Mutation(
        "an object of nothing",
        "names",
        "what it is part of",
        drop(lambda c: c.get("Service", API)["metadata"]["labels"], "app.kubernetes.io/part-of"),
    ),
)
