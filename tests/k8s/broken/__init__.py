"""Every mutation."""

from __future__ import annotations

from tests.k8s.broken.cluster import CLUSTER
from tests.k8s.broken.references import REFERENCES
from tests.k8s.broken.service import SERVICE

MUTATIONS = (*REFERENCES, *SERVICE, *CLUSTER)
