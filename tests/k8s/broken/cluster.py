"""Mutations of resources, security, rollout, autoscaling, network and monitoring."""

from __future__ import annotations

from tests.k8s.mutations import WORKER, Mutation, container, drop, pod, put, remove, second_autoscaler, spec

HPA = "HorizontalPodAutoscaler"

CLUSTER = (
    Mutation(
        "no limit",
        "resources",
        "no request or no limit of memory",
        drop(lambda c: container(c)["resources"]["limits"], "memory"),
    ),
    Mutation(
        "a request above its limit",
        "resources",
        "requests more cpu",
        put(lambda c: container(c)["resources"]["requests"], "cpu", "1500m"),
    ),
    Mutation(
        "an endless folder", "folders", "tmp has no sizeLimit", put(lambda c: pod(c)["volumes"][2], "emptyDir", {})
    ),
    Mutation(
        "a namespace that enforces nothing",
        "security",
        "Namespace lacks",
        drop(lambda c: c.get("Namespace", "feature-agent")["metadata"]["labels"], "pod-security.kubernetes.io/enforce"),
    ),
    Mutation(
        "an account with a token",
        "security",
        "hands out a token",
        drop(lambda c: c.get("ServiceAccount", "feature-agent"), "automountServiceAccountToken"),
    ),
    Mutation(
        "a pod with a token",
        "security",
        "automountServiceAccountToken is not False",
        put(pod, "automountServiceAccountToken", value=True),
    ),
    Mutation("service links", "security", "enableServiceLinks is not False", drop(pod, "enableServiceLinks")),
    Mutation("the node's network", "security", "has hostNetwork", put(pod, "hostNetwork", value=True)),
    Mutation(
        "root", "security", "may run as root", put(lambda c: pod(c)["securityContext"], "runAsNonRoot", value=False)
    ),
    Mutation(
        "another user",
        "security",
        "another user than its image's",
        put(lambda c: pod(c)["securityContext"], "runAsUser", 1000),
    ),
    Mutation(
        "no seccomp", "security", "no seccomp profile", drop(lambda c: pod(c)["securityContext"], "seccompProfile")
    ),
    Mutation(
        "a capability",
        "security",
        "capabilities=",
        put(lambda c: container(c)["securityContext"], "capabilities", {"drop": ["ALL"], "add": ["SYS_ADMIN"]}),
    ),
    Mutation(
        "privileged",
        "security",
        "is privileged",
        put(lambda c: container(c)["securityContext"], "privileged", value=True),
    ),
    Mutation(
        "a file system to write to",
        "security",
        "readOnlyRootFilesystem=False",
        put(lambda c: container(c)["securityContext"], "readOnlyRootFilesystem", value=False),
    ),
    Mutation("the newest image", "security", "is not pinned", put(container, "image", "feature-agent:latest")),
    Mutation(
        "an image without a tag", "security", "is not pinned", put(container, "image", "registry:5000/feature-agent")
    ),
    Mutation(
        "a folder of the node",
        "security",
        "mounts its node's /var",
        put(lambda c: pod(c)["volumes"], 2, {"name": "tmp", "hostPath": {"path": "/var"}}),
    ),
    Mutation(
        "secrets for everybody",
        "security",
        "everybody may read secrets",
        put(lambda c: pod(c)["volumes"][0]["secret"], "defaultMode", 0o444),
    ),
    Mutation(
        "secrets that the group cannot read",
        "security",
        "without fsGroup",
        drop(lambda c: pod(c)["securityContext"], "fsGroup"),
    ),
    Mutation(
        "a secret in the manifest",
        "security",
        "JWT_SECRET is in the manifest",
        put(container, "env", [{"name": "JWT_SECRET", "value": "x"}]),
    ),
    Mutation(
        "a gap in a rollout",
        "rollout",
        "takes pods away",
        put(lambda c: spec(c, "Deployment")["strategy"]["rollingUpdate"], "maxUnavailable", 1),
    ),
    Mutation(
        "replicas twice",
        "rollout",
        "replicas are the autoscaler's",
        put(lambda c: spec(c, "Deployment"), "replicas", 3),
    ),
    Mutation(
        "old ReplicaSets",
        "rollout",
        "ten old ReplicaSets",
        drop(lambda c: spec(c, "Deployment"), "revisionHistoryLimit"),
    ),
    Mutation(
        "an endless Job",
        "jobs",
        "no activeDeadlineSeconds",
        drop(lambda c: spec(c, "Job", "feature-agent-migrate"), "activeDeadlineSeconds"),
    ),
    Mutation(
        "an hour there is not",
        "jobs",
        "'25' is no hour",
        put(lambda c: spec(c, "CronJob", "feature-agent-backup"), "schedule", "17 25 * * *"),
    ),
    Mutation(
        "four fields",
        "jobs",
        "has 4 fields",
        put(lambda c: spec(c, "CronJob", "feature-agent-backup"), "schedule", "17 2 * *"),
    ),
    Mutation(
        "two backups at once",
        "jobs",
        "beside itself",
        put(lambda c: spec(c, "CronJob", "feature-agent-backup"), "concurrencyPolicy", "Allow"),
    ),
    Mutation("bounds crossed", "autoscaling", "from 11 to 10 pods", put(lambda c: spec(c, HPA), "minReplicas", 11)),
    Mutation("no behaviour", "autoscaling", "scaleDown is not written out", drop(lambda c: spec(c, HPA), "behavior")),
    Mutation(
        "half a behaviour",
        "autoscaling",
        "scaleUp is not written out",
        put(lambda c: spec(c, HPA)["behavior"], "scaleUp", {"selectPolicy": "Max"}),
    ),
    Mutation(
        "KEDA without behaviour",
        "autoscaling",
        "ScaledObject/feature-agent-worker: scaleUp",
        drop(lambda c: spec(c, "ScaledObject", WORKER), "advanced"),
        of="components/keda",
    ),
    Mutation(
        "nothing to scale",
        "autoscaling",
        "no Deployment 'x'",
        put(lambda c: spec(c, HPA)["scaleTargetRef"], "name", "x"),
    ),
    Mutation("two autoscalers", "autoscaling", "has 2 autoscalers", second_autoscaler),
    Mutation(
        "a metric there is not",
        "metrics",
        "no metric 'api_in_flight'",
        put(lambda c: spec(c, HPA)["metrics"][2]["pods"]["metric"], "name", "api_in_flight"),
    ),
    Mutation(
        "a label's value there is not",
        "metrics",
        "never has state='waiting'",
        put(
            lambda c: spec(c, HPA, WORKER)["metrics"][0]["external"]["metric"]["selector"]["matchLabels"],
            "state",
            "waiting",
        ),
    ),
    Mutation(
        "KEDA's metric there is not",
        "metrics",
        "never has state='idle'",
        put(
            lambda c: spec(c, "ScaledObject", WORKER)["triggers"][0]["metadata"],
            "query",
            'max(extraction_queue_jobs{state="idle"})',
        ),
        of="components/keda",
    ),
    Mutation(
        "nothing to measure against",
        "metrics",
        "no request of cpu",
        drop(lambda c: container(c)["resources"]["requests"], "cpu"),
    ),
    Mutation("nothing denied", "network", "no policy denies", remove("NetworkPolicy", "default-deny")),
    Mutation(
        "everything allowed",
        "network",
        "a rule for everybody",
        put(lambda c: spec(c, "NetworkPolicy", "to-otlp")["egress"], 0, {}),
    ),
    Mutation(
        "the cloud's metadata",
        "network",
        "reach 169.254.0.0/16",
        put(lambda c: spec(c, "NetworkPolicy", "to-internet")["egress"][0]["to"][0]["ipBlock"], "except", []),
    ),
    Mutation("not scraped", "monitoring", "is scraped 0 times", remove("PodMonitor", "feature-agent-worker")),
    Mutation(
        "another job",
        "monitoring",
        "has the job 'api'",
        put(
            lambda c: spec(c, "PodMonitor", "feature-agent")["podMetricsEndpoints"][0]["relabelings"][0],
            "replacement",
            "api",
        ),
    ),
    Mutation(
        "metrics elsewhere",
        "monitoring",
        "asks for /prometheus",
        put(lambda c: spec(c, "PodMonitor", "feature-agent")["podMetricsEndpoints"][0], "path", "/prometheus"),
    ),
    Mutation("no TLS", "ingress", "has no TLS", put(lambda c: spec(c, "Ingress"), "tls", [])),
    Mutation(
        "metrics for everybody",
        "ingress",
        "shows /",
        put(lambda c: spec(c, "Ingress")["rules"][0]["http"]["paths"][0], "path", "/"),
    ),
)
