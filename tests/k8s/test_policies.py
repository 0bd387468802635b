"""The rendered objects keep every policy, in each overlay and with each component."""

from __future__ import annotations

import pytest

from tests.k8s.cluster import Cluster
from tests.k8s.conftest import Rendered
from tests.k8s.policies import POLICIES, Policy
from tests.k8s.rendering import EVERYTHING, OVERLAYS

NEEDS_A_SECRET = {
    "base": {"feature-agent"},
    "components/postgres": {"feature-agent-postgres"},
    "components/redis": {"feature-agent-redis"},
    "components/pgbouncer": {"feature-agent-pgbouncer"},
}
"""Secrets that an overlay has to bring."""


def faults(policy: Policy, objects: Cluster, name: str) -> list[str]:
    """What the policy finds, but for the Secrets that only an overlay has."""
    outside = NEEDS_A_SECRET["base"] | NEEDS_A_SECRET.get(name, set()) if name not in OVERLAYS else set()
    excused = {f"Secret {secret!r} is named and nowhere defined" for secret in outside}
    return [fault for fault in policy(objects) if fault not in excused]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.__name__)
@pytest.mark.parametrize("name", EVERYTHING)
def test_policies_are_kept(rendered: Rendered, name: str, policy: Policy) -> None:
    """No policy finds a fault."""
    assert faults(policy, Cluster(rendered(name)), name) == []
