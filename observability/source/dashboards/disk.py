"""Panels about disk: what is left of each volume, and what the stores on them take."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import units

from observability.source.dashboards import links
from observability.source.dashboards.panels import Look, Query, bars, lines
from observability.source.dashboards.promql import TARGET, series

VOLUMES = 'mountpoint=~"/volumes/.+"'
"""Where compose.yaml mounts each volume for node_exporter."""
CLAIMS = 'namespace="feature-agent"'
"""The volumes of the service's pods, as the kubelet sees them."""
FREE_STEPS = {0.05: "orange", 0.15: "green"}
NOT_KNOWN = "Not known: no process, node_exporter or kubelet answers"
LEADS = (
    links.metrics("Bytes free of each volume", "node_filesystem_avail_bytes"),
    links.logs("Log lines about space", "|~ `(?i)no space|disk full|disk`"),
)


def disk() -> list[model.Panel]:
    """Build all of them: what is left now, how it came to that, what takes it."""
    return [free(), course(), stores()]


def _left() -> list[Query]:
    """Share of each volume that is free: as node_exporter, the kubelet, and each process sees it."""
    node = _ratio("node_filesystem_avail_bytes", "node_filesystem_size_bytes", VOLUMES)
    claim = _ratio("kubelet_volume_stats_available_bytes", "kubelet_volume_stats_capacity_bytes", CLAIMS)
    data = _ratio("data_disk_free_bytes", "data_disk_size_bytes", TARGET)
    return [
        Query(f"min by (mountpoint) ({node})", "{{mountpoint}}"),
        Query(f"min by (persistentvolumeclaim) ({claim})", "{{persistentvolumeclaim}}"),
        Query(f"min by (job, instance) ({data})", "DATA_DIR, {{instance}} {{job}}"),
    ]


def _ratio(part: str, whole: str, chosen: str) -> str:
    return f"{part}{{{chosen}}} / {whole}{{{chosen}}}"


def free() -> model.Panel:
    """What is left of each volume now."""
    return bars(
        "Disk left",
        "Share of each volume that is free: of the database, artifacts, Prometheus, Loki and Jaeger (Badger), and of "
        "each process's DATA_DIR. Below 15 % it warns, below 5 % it pages. Volumes of one machine share its disk.",
        _left(),
        Look(
            units.PercentUnit,
            8,
            9,
            thresholds=FREE_STEPS,
            base="red",
            maximum=1,
            links=LEADS,
            empty=NOT_KNOWN,
        ),
    )


def course() -> model.Panel:
    """What was left of each volume over time."""
    return lines(
        "Disk left over time",
        "Share of each volume that was free. A line that falls straight says when it reaches the floor: make room "
        "before that.",
        _left(),
        Look(units.PercentUnit, 8, 9, maximum=1, links=LEADS, empty=NOT_KNOWN),
    )


def stores() -> model.Panel:
    """What the stores take that tell it."""
    return lines(
        "Size of the stores",
        "Bytes of the database, of datasets and feature tables, and of Prometheus, which drops its oldest blocks at "
        "--storage.tsdb.retention.size. Loki and Jaeger do not say theirs; they drop what is older than three days.",
        [
            Query('sum(pg_database_size_bytes{datname!~"template.*|postgres"})', "database"),
            Query(f"max({series('stored_bytes')})", "datasets and feature tables"),
            Query("max(prometheus_tsdb_storage_blocks_bytes)", "Prometheus"),
            Query("max(prometheus_tsdb_retention_limit_bytes)", "limit of Prometheus"),
        ],
        Look(
            units.BytesIEC,
            8,
            9,
            colours={"limit of Prometheus": "red"},
            links=LEADS,
            empty="Not known: neither postgres_exporter nor Prometheus answers",
        ),
    )
