"""All policies. Each looks at rendered objects and gives a line for each fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.k8s.cluster import Cluster
from tests.k8s.policies import (
    autoscaling,
    database,
    monitoring,
    network,
    ports,
    probes,
    references,
    resources,
    rollout,
    security,
    selectors,
    settings,
    stopping,
)

Policy = Callable[[Cluster], Iterator[str]]

POLICIES: tuple[Policy, ...] = (
    selectors.selectors,
    selectors.workloads,
    selectors.budgets,
    ports.ports,
    references.references,
    references.volumes,
    references.names,
    settings.settings,
    probes.probes,
    stopping.stopping,
    resources.resources,
    resources.engine,
    resources.folders,
    security.security,
    rollout.rollout,
    rollout.jobs,
    autoscaling.autoscaling,
    autoscaling.metrics,
    database.database,
    network.network,
    monitoring.monitoring,
    monitoring.ingress,
)
