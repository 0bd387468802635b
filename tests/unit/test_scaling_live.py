"""Which pods a scaling run takes away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pytest

from loadtest.scaling.live import to_remove
from loadtest.scaling.pod import PodProcess


@dataclass
class Pod:
    """What is asked of a pod."""

    created: float
    ready: bool


@pytest.mark.parametrize(
    ("desired", "created"),
    [(5, []), (4, []), (3, [4.0]), (2, [4.0, 3.0]), (1, [4.0, 3.0, 2.0]), (0, [4.0, 3.0, 2.0, 1.0])],
)
def test_unready_pods_go_first_and_then_the_youngest(desired: int, created: list[float]) -> None:
    """Of four pods, the youngest of which is not ready, as many go as are too many; none when more are wanted."""
    pods = [Pod(1.0, ready=True), Pod(2.0, ready=True), Pod(3.0, ready=True), Pod(4.0, ready=False)]
    found = to_remove(cast("list[PodProcess]", pods), desired)
    assert [pod.created for pod in found] == created


def test_a_young_pod_that_is_ready_stays_before_an_old_one_that_is_not() -> None:
    """A ReplicaSet keeps what serves."""
    pods = [Pod(1.0, ready=False), Pod(2.0, ready=True)]
    assert to_remove(cast("list[PodProcess]", pods), 1) == [pods[0]]
