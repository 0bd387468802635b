"""The committed proofs of the autoscalers' targets are those of the manifests as they are now."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from loadtest.results import read_record, write_record
from loadtest.scaling.cluster import CLUSTER_FILE, ClusterProof
from loadtest.scaling.live import Happening
from loadtest.scaling.manifest import MIB, Deployed, read_deployed
from loadtest.scaling.path import highest, scale_ins
from loadtest.scaling.proof import PROOF_FILE, Proof
from loadtest.scaling.targets import Target
from tests.unit import scaling_fixtures
from tests.unit.scaling_fixtures import TIDE, path

MEASUREMENTS = Path(__file__).parents[2] / "docs" / "measurements"
MIN_SCALE_INS = 5
API = read_deployed("api")
PROOF = replace(scaling_fixtures.PROOF, deployed=API)
CLUSTER = ClusterProof("pass", [], API, "v1.34.0", TIDE, [Happening(9, "x")], 120, 999, 0, 1500, 0)


def committed(folder: Path, name: str, kind: type[Proof | ClusterProof]) -> Proof | ClusterProof:
    """Read a committed proof; without one the test fails and names the command that makes it."""
    if not (folder / name).exists():
        more = " and `python -m loadtest hpa cluster`" if name == CLUSTER_FILE else ""
        pytest.fail(f"docs/measurements/{name} is missing: run `make hpa-proof`{more}", pytrace=False)
    return read_record(folder / name, kind)


def require_same(found: Deployed, component: str) -> None:
    """Compare what was measured with the manifests."""
    now = read_deployed(component)
    assert found.resources == now.resources, f"{component}: resources have changed: run `make hpa-proof`"
    assert found.spec() == now.spec(), f"{component}: the autoscaler has changed: run `make hpa-proof`"


def require_proof(folder: Path) -> None:
    """Hold the proof of one machine against the manifests and what it has to show."""
    proof = committed(folder, PROOF_FILE, Proof)
    assert isinstance(proof, Proof)
    require_same(proof.deployed, "api")
    require_same(proof.worker, "worker")
    assert proof.deployed.autoscaler == read_deployed("api").autoscaler
    assert proof.worker.autoscaler == read_deployed("worker").autoscaler
    assert proof.verdict == "pass"
    assert [one.metric for one in proof.targets if not one.valid] == []
    measured = {metric.name for one in (proof.deployed, proof.worker) for metric in one.spec().metrics}
    assert {one.metric for one in proof.targets} == measured
    assert proof.failed_requests == 0
    assert scale_ins(proof.seen) >= MIN_SCALE_INS


def require_cluster(folder: Path) -> None:
    """Hold the proof of a cluster against the manifests and what it has to show."""
    proof = committed(folder, CLUSTER_FILE, ClusterProof)
    assert isinstance(proof, ClusterProof)
    require_same(proof.deployed, "api")
    assert proof.verdict == "pass"
    assert (proof.seen[0].current, proof.seen[-1].desired) == (3, 3)
    assert highest(proof.seen) >= 6
    assert proof.failed_requests == 0


def test_the_committed_proof_is_that_of_the_manifests() -> None:
    """Targets in docs/measurements were proven with today's requests, limits and autoscalers, without a failure."""
    require_proof(MEASUREMENTS)


def test_the_committed_cluster_proof_is_that_of_the_manifests() -> None:
    """A cluster's own autoscaler went from three pods to six or more and back with today's manifests."""
    require_cluster(MEASUREMENTS)


def test_sound_samples_are_accepted(tmp_path: Path) -> None:
    """A passing proof of today's manifests is one."""
    write_record(tmp_path / PROOF_FILE, PROOF)
    write_record(tmp_path / CLUSTER_FILE, CLUSTER)
    require_proof(tmp_path)
    require_cluster(tmp_path)


@pytest.mark.parametrize("require", [require_proof, require_cluster])
def test_a_missing_proof_names_what_makes_it(tmp_path: Path, require: Callable[[Path], None]) -> None:
    """Without its file the test fails with the target of make."""
    with pytest.raises(pytest.fail.Exception, match="run `make hpa-proof`"):
        require(tmp_path)


OTHER_RESOURCES = replace(API, resources=replace(API.resources, request_memory=256 * MIB))
OTHER_SPEC = replace(API, autoscaler={**API.autoscaler, "maxReplicas": 9})


@pytest.mark.parametrize(
    "spoilt",
    [
        replace(PROOF, deployed=OTHER_RESOURCES),
        replace(PROOF, deployed=OTHER_SPEC),
        replace(PROOF, worker=replace(PROOF.worker, autoscaler=API.autoscaler)),
        replace(PROOF, verdict="fail"),
        replace(PROOF, targets=PROOF.targets[1:]),
        replace(PROOF, targets=[Target("cpu", "70 %", valid=False, right="35 %", sentence=""), *PROOF.targets[1:]]),
        replace(PROOF, failed_requests=1),
        replace(PROOF, seen=path(3, 6, 3)),
    ],
)
def test_a_proof_of_something_else_is_refused(tmp_path: Path, spoilt: Proof) -> None:
    """Other manifests, a verdict or target that does not hold, a failure or too few scale-ins are no proof."""
    write_record(tmp_path / PROOF_FILE, spoilt)
    with pytest.raises(AssertionError):
        require_proof(tmp_path)


@pytest.mark.parametrize(
    "spoilt",
    [
        replace(CLUSTER, deployed=OTHER_RESOURCES),
        replace(CLUSTER, deployed=OTHER_SPEC),
        replace(CLUSTER, verdict="not_measured"),
        replace(CLUSTER, failed_requests=1),
        replace(CLUSTER, seen=path(3, 5, 3)),
        replace(CLUSTER, seen=path(3, 6, 4)),
        replace(CLUSTER, seen=path(4, 6, 3)),
    ],
)
def test_a_cluster_proof_of_something_else_is_refused(tmp_path: Path, spoilt: ClusterProof) -> None:
    """Other manifests, another verdict, a failure, or a path that is not three, six, three are no proof."""
    write_record(tmp_path / CLUSTER_FILE, spoilt)
    with pytest.raises(AssertionError):
        require_cluster(tmp_path)
