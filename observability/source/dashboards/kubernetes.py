"""Panels about the service's pods, from kube-state-metrics and cAdvisor."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import units

from observability.source.dashboards import links
from observability.source.dashboards.panels import Look, Query, lines

PODS = 'pod=~"feature-agent-.+",container!=""'
HPA = 'horizontalpodautoscaler=~"feature-agent.*"'
DEPLOYMENT = 'deployment=~"feature-agent.*"'
ELSEWHERE = "Only in Kubernetes: neither kube-state-metrics nor cAdvisor answers here"
LOGS = (links.logs("Log lines of the service"),)


def cluster() -> list[model.Panel]:
    """All of them."""
    return [cpu(), throttling(), memory(), replicas(), targets(), availability(), restarts(), kills()]


def _resource(kind: str, resource: str) -> str:
    return f'sum by (pod) (kube_pod_container_resource_{kind}{{{PODS},resource="{resource}"}})'


def cpu() -> model.Panel:
    """CPU against request and limit."""
    used = f"sum by (pod) (rate(container_cpu_usage_seconds_total{{{PODS}}}[$__rate_interval]))"
    return lines(
        "CPU against request and limit",
        "Share of its CPU request and of its CPU limit that each pod uses. The autoscaler aims at 70 % of the request, "
        "on average over the pods.",
        [
            Query(f"{used} / {_resource('requests', 'cpu')}", "{{pod}} of request"),
            Query(f"{used} / {_resource('limits', 'cpu')}", "{{pod}} of limit"),
        ],
        Look(units.PercentUnit, thresholds={0.7: "orange", 1: "red"}, links=LOGS, empty=ELSEWHERE),
    )


def throttling() -> model.Panel:
    """Share of throttled periods."""
    throttled = f"sum by (pod) (rate(container_cpu_cfs_throttled_periods_total{{{PODS}}}[$__rate_interval]))"
    periods = f"sum by (pod) (rate(container_cpu_cfs_periods_total{{{PODS}}}[$__rate_interval]))"
    return lines(
        "Throttled periods",
        "Share of the scheduler's periods of 100 ms in which a pod hit its CPU limit and had to stop. Above 25 % "
        "requests are slowed by it, whatever the average CPU says.",
        [Query(f"{throttled} / ({periods} > 0)", "{{pod}}")],
        Look(units.PercentUnit, thresholds={0.25: "red"}, links=LOGS, empty=ELSEWHERE),
    )


def memory() -> model.Panel:
    """Memory against request and limit."""
    used = f"sum by (pod) (container_memory_working_set_bytes{{{PODS}}})"
    return lines(
        "Memory against request and limit",
        "Share of its memory request and of its limit that each pod uses. At its limit a pod is killed.",
        [
            Query(f"{used} / {_resource('requests', 'memory')}", "{{pod}} of request"),
            Query(f"{used} / {_resource('limits', 'memory')}", "{{pod}} of limit"),
        ],
        Look(units.PercentUnit, thresholds={0.8: "orange", 0.9: "red"}, links=LOGS, empty=ELSEWHERE),
    )


def replicas() -> model.Panel:
    """What the autoscaler wants and has."""
    wanted = {
        "status_current_replicas": "current",
        "status_desired_replicas": "desired",
        "spec_min_replicas": "least",
        "spec_max_replicas": "most",
    }
    return lines(
        "Autoscaler",
        "Pods there are, pods the autoscaler wants, and its bounds. Wanting the most for long means that load outgrew "
        "them.",
        [
            Query(
                f"max by (horizontalpodautoscaler) (kube_horizontalpodautoscaler_{name}{{{HPA}}})",
                f"{word} {{{{horizontalpodautoscaler}}}}",
            )
            for name, word in wanted.items()
        ],
        Look(units.Short, colours={"most .*": "red"}, links=LOGS, empty=ELSEWHERE),
    )


def targets() -> model.Panel:
    """The autoscaler's measures beside its targets."""
    chosen = f'{HPA},metric_target_type="utilization"'
    highest = {
        kind: f"max by (metric_name) (kube_horizontalpodautoscaler_{kind}_target_metric{{{chosen}}})"
        for kind in ("status", "spec")
    }
    return lines(
        "Autoscaler's measures and targets",
        "Mean utilisation of the pods' requests as the autoscaler measures it, beside the target it keeps.",
        [
            Query(highest["status"], "{{metric_name}}"),
            Query(highest["spec"], "{{metric_name}} target"),
        ],
        Look(units.Percent, links=LOGS, empty=ELSEWHERE),
    )


def availability() -> model.Panel:
    """Replicas asked for and available."""
    return lines(
        "Replicas",
        "Pods that each deployment asks for, and those that are available.",
        [
            Query(f"max by (deployment) (kube_deployment_spec_replicas{{{DEPLOYMENT}}})", "{{deployment}} wanted"),
            Query(
                f"max by (deployment) (kube_deployment_status_replicas_available{{{DEPLOYMENT}}})",
                "{{deployment}} available",
            ),
        ],
        Look(units.Short, links=LOGS, empty=ELSEWHERE),
    )


def restarts() -> model.Panel:
    """Restarts of containers."""
    restarted = f"kube_pod_container_status_restarts_total{{{PODS}}}"
    return lines(
        "Restarts",
        "Restarts of containers within the last hour of each moment.",
        [Query(f"sum by (pod, container) (increase({restarted}[1h]))", "{{pod}} {{container}}")],
        Look(units.Short, 12, thresholds={1: "orange"}, links=LOGS, empty=ELSEWHERE),
    )


def kills() -> model.Panel:
    """Containers that were killed for their memory."""
    last = f'kube_pod_container_status_last_terminated_reason{{{PODS},reason="OOMKilled"}}'
    return lines(
        "Killed for memory",
        "Containers whose last end was the kernel's, for want of memory (1). None is how it should be.",
        [Query(f"max by (pod, container) ({last})", "{{pod}} {{container}}")],
        Look(units.Short, 12, thresholds={1: "red"}, links=LOGS, empty="None, or not in Kubernetes"),
    )
