"""The page of what a cluster's own autoscaler did under load."""

from __future__ import annotations

from loadtest.report.document import Document, Section
from loadtest.report.formats import number
from loadtest.report.gates import gates
from loadtest.scaling.cluster import ClusterProof, local_time
from loadtest.scaling.page import happenings_table, path_charts

WORDS = {
    "pass": "The cluster's autoscaler followed the load and no request failed.",
    "fail": "The cluster's autoscaler did not do what it should.",
    "not_measured": "The machine did not allow a measurement.",
}


def cluster_document(proof: ClusterProof) -> Document:
    """Build the page."""
    resources, spec = proof.deployed.resources, proof.deployed.spec()
    return Document(
        "The autoscaler of a cluster under load",
        proof.verdict,
        (
            Section("Gates", (gates(proof.checks),)),
            Section("Replicas", (*path_charts(proof.seen), happenings_table(proof.happenings))),
        ),
        WORDS[proof.verdict],
        (
            ("Began", local_time(proof.began)),
            ("Kubernetes", proof.server),
            ("Replicas", f"{spec.minimum} to {spec.maximum}"),
            ("Request and limit of CPU", f"{resources.request_cpu_m}m, {resources.limit_cpu_m}m"),
            ("Peak", f"{proof.peak:g} clients/s"),
            ("Requests", number(proof.requests)),
            ("Failed", number(proof.failed_requests)),
            ("Took", f"{proof.seconds / 60:.0f} min"),
        ),
    )
