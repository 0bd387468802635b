"""Memory, CPU and replicas; what only Kubernetes tells comes from kube-state-metrics and cAdvisor."""

from __future__ import annotations

from observability.source.causes.cause import COUNT, Cause

_PODS = 'pod=~"feature-agent.+",container!=""'
_HPA = 'horizontalpodautoscaler=~"feature-agent.*"'
_DEPLOYMENT = 'deployment=~"feature-agent.*"'
_BY_POD = "sum by (namespace, pod, container)"

CAUSES = (
    Cause(
        alert="MemoryNearLimit",
        group="memory",
        query=(
            "max by (job, instance) (process_resident_memory_bytes{@own})"
            " / max by (job, instance) (memory_limit_bytes{@own}) > 0.9"
        ),
        pending="5m",
        summary="A process is about to be killed for its memory.",
        description="{{ $labels.instance }} uses {{ $value | humanizePercentage }} of the memory that it may.",
        dashboard="feature-agent-saturation",
    ),
    Cause(
        alert="ContainerMemoryNearLimit",
        group="memory",
        query=(
            f"{_BY_POD} (container_memory_working_set_bytes{{{_PODS}}})"
            f' / {_BY_POD} (kube_pod_container_resource_limits{{{_PODS},resource="memory"}}) > 0.9'
        ),
        pending="5m",
        summary="A container is about to be killed for its memory.",
        description="{{ $labels.pod }} uses {{ $value | humanizePercentage }} of its memory limit.",
        dashboard="feature-agent-saturation",
    ),
    Cause(
        alert="ContainerOomKilled",
        group="memory",
        query=(
            f"{_BY_POD} (increase(kube_pod_container_status_restarts_total{{{_PODS}}}[10m])) > 0 and "
            f'{_BY_POD} (kube_pod_container_status_last_terminated_reason{{{_PODS},reason="OOMKilled"}}) > 0'
        ),
        pending="0s",
        slo="extraction-success",
        summary="A container was killed for its memory.",
        description="{{ $labels.pod }} was restarted within 10 minutes, and OOMKilled is why.",
        dashboard="feature-agent-saturation",
    ),
    Cause(
        alert="CpuThrottled",
        group="cpu",
        query=(
            f"{_BY_POD} (rate(container_cpu_cfs_throttled_periods_total{{{_PODS}}}[5m]))"
            f" / {_BY_POD} (rate(container_cpu_cfs_periods_total{{{_PODS}}}[5m])) > 0.25"
        ),
        pending="15m",
        slo="api-latency-read",
        summary="A container's CPU limit slows it down.",
        description="{{ $labels.pod }} is stopped in {{ $value | humanizePercentage }} of the scheduler's periods.",
        dashboard="feature-agent-saturation",
    ),
    Cause(
        alert="AutoscalerAtMaximum",
        group="replicas",
        query=(
            f"kube_horizontalpodautoscaler_status_current_replicas{{{_HPA}}}"
            f" == kube_horizontalpodautoscaler_spec_max_replicas{{{_HPA}}}"
            f" and kube_horizontalpodautoscaler_spec_max_replicas{{{_HPA}}}"
            f" > kube_horizontalpodautoscaler_spec_min_replicas{{{_HPA}}}"
        ),
        pending="15m",
        summary="The autoscaler has no more room.",
        description=f"{{{{ $labels.horizontalpodautoscaler }}}} has run at its maximum of {COUNT} replicas.",
        dashboard="feature-agent-saturation",
    ),
    Cause(
        alert="ReplicasMismatch",
        group="replicas",
        query=(
            f"kube_deployment_spec_replicas{{{_DEPLOYMENT}}}"
            f" - kube_deployment_status_replicas_available{{{_DEPLOYMENT}}} > 0"
        ),
        pending="10m",
        summary="Pods are missing that should run.",
        description=f"{{{{ $labels.deployment }}}} lacks {COUNT} of its replicas.",
        dashboard="feature-agent-saturation",
    ),
)
