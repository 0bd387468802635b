"""Proofs of `causes/disk.py`."""

from __future__ import annotations

from observability.source.proofs.proof import Expected, Proof

_NODE = 'node_filesystem_%s_bytes{job="node",instance="n",device="/dev/sda1",mountpoint="/volumes/%s"}'
_CLAIM = 'kubelet_volume_stats_%s_bytes{namespace="feature-agent",persistentvolumeclaim="artifacts"}'
_DATA = 'data_disk_%s_bytes{job="feature-agent",instance="a:8090"}'

PROOFS = (
    Proof(
        alert="DiskNearlyFull",
        what="as node_exporter sees it",
        fires={
            _NODE % ("avail", "database"): "14x20 40x20",
            _NODE % ("size", "database"): "100x40",
            _NODE % ("avail", "loki"): "50x40",
            _NODE % ("size", "loki"): "100x40",
        },
        pending="9m",
        at="11m",
        expect=(Expected(labels={"volume": "database"}, description="database has 14% left."),),
        clear="25m",
        below={_NODE % ("avail", "database"): "15x40", _NODE % ("size", "database"): "100x40"},
    ),
    Proof(
        alert="DiskNearlyFull",
        what="as node_exporter sees it, within hours",
        fires={_NODE % ("avail", "database"): "4x20 40x20", _NODE % ("size", "database"): "100x40"},
        pending="1m",
        at="3m",
        expect=(Expected(severity="critical", labels={"volume": "database"}, description="database has 4% left."),),
        clear="25m",
        below={_NODE % ("avail", "database"): "15x40", _NODE % ("size", "database"): "100x40"},
    ),
    Proof(
        alert="DiskNearlyFull",
        what="as the kubelet sees it",
        fires={_CLAIM % "available": "10x20 40x20", _CLAIM % "capacity": "100x40"},
        at="11m",
        expect=(Expected(labels={"volume": "artifacts"}, description="artifacts has 10% left."),),
        clear="25m",
        below={
            _CLAIM.replace("feature-agent", "another") % "available": "10x40",
            _CLAIM.replace("feature-agent", "another") % "capacity": "100x40",
        },
    ),
    Proof(
        alert="DiskNearlyFull",
        what="as the process sees it",
        fires={_DATA % "free": "10x20 40x20", _DATA % "size": "100x40"},
        at="11m",
        expect=(Expected(labels={"volume": "a:8090"}, description="a:8090 has 10% left."),),
        clear="25m",
        below={_DATA % "free": "20x40", _DATA % "size": "100x40"},
    ),
)
