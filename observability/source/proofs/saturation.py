"""Proofs of `causes/saturation.py`."""

from __future__ import annotations

from observability.source.proofs.proof import Expected, Proof

_RESIDENT = 'process_resident_memory_bytes{job="feature-agent",instance="a"}'
_LIMIT = 'memory_limit_bytes{job="feature-agent",instance="a"}'
_CONTAINER = 'namespace="n",pod="feature-agent-api-1",container="api"'
_OF_POD = {"namespace": "n", "pod": "feature-agent-api-1", "container": "api"}
_USED = f"container_memory_working_set_bytes{{{_CONTAINER}}}"
_ALLOWED = f'kube_pod_container_resource_limits{{{_CONTAINER},resource="memory"}}'
_RESTARTS = f"kube_pod_container_status_restarts_total{{{_CONTAINER}}}"
_REASON = f'kube_pod_container_status_last_terminated_reason{{{_CONTAINER},reason="%s"}}'
_THROTTLED = f"container_cpu_cfs_throttled_periods_total{{{_CONTAINER}}}"
_PERIODS = f"container_cpu_cfs_periods_total{{{_CONTAINER}}}"
_HPA = '{namespace="n",horizontalpodautoscaler="feature-agent-api"}'
_OF_HPA = {"namespace": "n", "horizontalpodautoscaler": "feature-agent-api"}
_CURRENT = f"kube_horizontalpodautoscaler_status_current_replicas{_HPA}"
_MOST = f"kube_horizontalpodautoscaler_spec_max_replicas{_HPA}"
_LEAST = f"kube_horizontalpodautoscaler_spec_min_replicas{_HPA}"
_DEPLOYMENT = '{namespace="n",deployment="feature-agent-api"}'
_OF_DEPLOYMENT = {"namespace": "n", "deployment": "feature-agent-api"}
_WANTED = f"kube_deployment_spec_replicas{_DEPLOYMENT}"
_AVAILABLE = f"kube_deployment_status_replicas_available{_DEPLOYMENT}"

PROOFS = (
    Proof(
        alert="MemoryNearLimit",
        fires={_RESIDENT: "95x12 50x20", _LIMIT: "100x40"},
        pending="4m",
        at="10m",
        expect=(
            Expected(
                labels={"job": "feature-agent", "instance": "a"}, description="a uses 95% of the memory that it may."
            ),
        ),
        clear="15m",
        below={_RESIDENT: "90x40", _LIMIT: "100x40"},
    ),
    Proof(
        alert="ContainerMemoryNearLimit",
        fires={_USED: "95x12 50x20", _ALLOWED: "100x40"},
        pending="4m",
        at="10m",
        expect=(Expected(labels=_OF_POD, description="feature-agent-api-1 uses 95% of its memory limit."),),
        clear="15m",
        below={_USED: "90x40", _ALLOWED: "100x40"},
    ),
    Proof(
        alert="ContainerOomKilled",
        fires={_RESTARTS: "0x4 1x40", _REASON % "OOMKilled": "_x4 1x40"},
        at="7m",
        expect=(
            Expected(
                labels=_OF_POD,
                description="feature-agent-api-1 was restarted within 10 minutes, and OOMKilled is why.",
            ),
        ),
        clear="20m",
        below={_RESTARTS: "0x4 1x40", _REASON % "Error": "_x4 1x40"},
    ),
    Proof(
        alert="CpuThrottled",
        fires={_THROTTLED: "0+180x25 4500+0x30", _PERIODS: "0+600x60"},
        pending="14m",
        at="22m",
        expect=(
            Expected(labels=_OF_POD, description="feature-agent-api-1 is stopped in 30% of the scheduler's periods."),
        ),
        clear="40m",
        below={_THROTTLED: "0+144x60", _PERIODS: "0+600x60"},
    ),
    Proof(
        alert="AutoscalerAtMaximum",
        fires={_CURRENT: "10x25 9x20", _MOST: "10x50", _LEAST: "3x50"},
        pending="14m",
        at="20m",
        expect=(Expected(labels=_OF_HPA, description="feature-agent-api has run at its maximum of 10 replicas."),),
        clear="27m",
        below={_CURRENT: "9x50", _MOST: "10x50", _LEAST: "3x50"},
    ),
    Proof(
        alert="ReplicasMismatch",
        fires={_WANTED: "3x40", _AVAILABLE: "1x15 3x20"},
        pending="9m",
        at="12m",
        expect=(Expected(labels=_OF_DEPLOYMENT, description="feature-agent-api lacks 2 of its replicas."),),
        clear="18m",
        below={_WANTED: "3x40", _AVAILABLE: "3x40"},
    ),
)
