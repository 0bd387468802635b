"""Room on the volumes of the database, artifacts, Prometheus, Loki and Jaeger, and on each process's own."""

from __future__ import annotations

from observability.source.causes.cause import Cause

_VOLUMES = 'mountpoint=~"/volumes/.+"'
_CLAIMS = 'namespace="feature-agent"'


def _left(part: str, whole: str, chosen: str, label: str, pattern: str) -> str:
    """Share of each volume that is free, by a label `volume`, from whichever exporter measures it."""
    share = f"min by ({label}) ({part}{{{chosen}}} / {whole}{{{chosen}}})"
    return f'label_replace({share}, "volume", "$1", "{label}", "{pattern}")'


_LEFT = "min by (volume) ({} or {} or {})".format(
    _left("node_filesystem_avail_bytes", "node_filesystem_size_bytes", _VOLUMES, "mountpoint", "/volumes/(.+)"),
    _left(
        "kubelet_volume_stats_available_bytes",
        "kubelet_volume_stats_capacity_bytes",
        _CLAIMS,
        "persistentvolumeclaim",
        "(.+)",
    ),
    _left("data_disk_free_bytes", "data_disk_size_bytes", "@own", "instance", "(.+)"),
)

CAUSES = (
    Cause(
        alert="DiskNearlyFull",
        group="disk",
        query=f"{_LEFT} < 0.15",
        pending="10m",
        summary="A volume is nearly full.",
        description="{{ $labels.volume }} has {{ $value | humanizePercentage }} left.",
        dashboard="feature-agent-saturation",
        since="2d",
    ),
    Cause(
        alert="DiskNearlyFull",
        group="disk",
        query=f"{_LEFT} < 0.05",
        pending="2m",
        severity="critical",
        slo="api-availability",
        summary="A volume is all but full: what writes to it will stop.",
        description="{{ $labels.volume }} has {{ $value | humanizePercentage }} left.",
        dashboard="feature-agent-saturation",
        since="2d",
    ),
)
