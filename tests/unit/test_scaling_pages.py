"""The proof's pages render to HTML and Markdown with their figures, and the generator's progress is read."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from loadtest.report.document import Document
from loadtest.report.html_page import to_html
from loadtest.report.markdown import to_markdown
from loadtest.results import read_record, write_record
from loadtest.scaling.cluster import ClusterProof
from loadtest.scaling.cluster_page import cluster_document
from loadtest.scaling.live import Happening, arrivals_of
from loadtest.scaling.page import document
from loadtest.scaling.proof import Proof
from loadtest.scaling.targets import Target
from loadtest.traffic.plan import Progress
from loadtest.verdict import Check
from tests.unit.scaling_fixtures import API, PROOF, TIDE

CLUSTER = ClusterProof(
    verdict="pass",
    checks=[Check("scaled_out", "pass", 8, 6, "from 3 pods it went to 8")],
    deployed=API,
    server="v1.34.0",
    seen=TIDE,
    happenings=[Happening(75, "feature-agent-api-x ready")],
    peak=120.0,
    requests=54321,
    failed_requests=0,
    seconds=1500.0,
    began=1_700_000_000,
)


def both(page: Document) -> tuple[str, str]:
    """Render a page in both forms, the second without the escapes of Markdown."""
    return to_html(page), to_markdown(page).replace("\\", "")


def test_the_page_of_a_proof_has_its_figures() -> None:
    """Targets, gates, the curve, the worker, the path and how it was done are all in both forms."""
    for text in both(document(PROOF)):
        for words in (
            *("Every target of the autoscalers holds.", "extraction_queue_oldest_seconds", "cpu holds"),
            *("from 3 pods it went to 8", "397 requests/s", "2 cores, Linux, Python 3.11", "5 times a cluster"),
            *("0.175", "A worker empties a queue", "222", "api-004 created", "every 3 s", "10 min"),
        ):
            assert words in text, words
        assert "before the run" not in text


def test_a_proof_says_in_full_how_it_was_made() -> None:
    """No paragraph is so long that a page cuts it."""
    for text in both(document(PROOF)):
        assert "take their own time." in text
        assert "more characters" not in text


def test_the_page_of_a_failed_proof_says_so() -> None:
    """An invalid target is shown with the number that would be right, and the headline is no."""
    bad = Target("cpu", "70 %", valid=False, right="35 %", sentence="too many")
    for text in both(document(replace(PROOF, verdict="fail", targets=[bad]))):
        assert "Not every target of the autoscalers holds." in text
        assert "invalid" in text
        assert "35 %" in text


def test_a_proof_without_happenings_renders() -> None:
    """A run that changed nothing has a path of one number and says that nothing happened."""
    for text in both(document(replace(PROOF, happenings=[], seen=TIDE[:1], predicted=[]))):
        assert "Nothing." in text


def test_the_page_of_a_cluster_has_its_figures() -> None:
    """Version, bounds, requests, peak and happenings are in both forms."""
    for text in both(cluster_document(CLUSTER)):
        for words in (
            *("followed the load and no request failed", "v1.34.0", "3 to 10", "250m, 1000m", "120 clients/s"),
            *("25 min", "feature-agent-api-x ready", "from 3 pods it went to 8"),
        ):
            assert words in text, words


@pytest.mark.parametrize("verdict", ["fail", "not_measured"])
def test_a_cluster_that_did_not_pass_has_another_headline(verdict: str) -> None:
    """No page praises a run that did not pass."""
    page = cluster_document(msgspec.convert({**msgspec.to_builtins(CLUSTER), "verdict": verdict}, ClusterProof))
    for text in both(page):
        assert "followed the load" not in text


def test_proofs_survive_their_files(tmp_path: Path) -> None:
    """What is written as JSON is read as it was, the autoscaler's spec included."""
    write_record(tmp_path / "proof.json", PROOF)
    write_record(tmp_path / "cluster.json", CLUSTER)
    assert read_record(tmp_path / "proof.json", Proof) == PROOF
    assert read_record(tmp_path / "cluster.json", ClusterProof) == CLUSTER


def test_arrivals_are_read_from_the_progress(tmp_path: Path) -> None:
    """Before the file is there, and while it is half written, no client has come."""
    file = tmp_path / "progress.json"
    assert arrivals_of(file) == 0
    file.write_text('{"at": 1.0, "sta', encoding="utf-8")
    assert arrivals_of(file) == 0
    write_record(file, Progress(1.0, "tide", 17, 12, 0, 12, 0))
    assert arrivals_of(file) == 17
