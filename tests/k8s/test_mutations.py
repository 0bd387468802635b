"""Policies can fail: broken objects are reported, by the policy that is meant to, in words that lead to the fault."""

from __future__ import annotations

import pytest

from tests.k8s.broken import MUTATIONS
from tests.k8s.cluster import Cluster
from tests.k8s.conftest import Rendered
from tests.k8s.mutations import Mutation
from tests.k8s.policies import POLICIES
from tests.k8s.test_policies import faults

BY_NAME = {policy.__name__: policy for policy in POLICIES}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name.replace(" ", "-"))
def test_a_broken_object_is_reported(rendered: Rendered, mutation: Mutation) -> None:
    """The policy finds nothing before the change, and the fault after it."""
    policy = BY_NAME[mutation.policy]
    cluster = Cluster(rendered(mutation.of))
    assert faults(policy, cluster, mutation.of) == []
    mutation.change(cluster)
    assert any(mutation.says in fault for fault in policy(Cluster(cluster.objects)))


def test_every_policy_is_shown_to_fail() -> None:
    """No policy is without a mutation."""
    assert BY_NAME.keys() == {mutation.policy for mutation in MUTATIONS}
