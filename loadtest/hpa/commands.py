"""The command `hpa`: decide scenarios, prove the targets on this machine, or watch a cluster's autoscaler."""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path
from typing import Any

from loadtest.commands import add_traffic_options, make_options, say, target_of
from loadtest.hpa.decide import decide
from loadtest.measure.indicators import load_slos
from loadtest.report import console
from loadtest.report.html_page import to_html
from loadtest.report.markdown import to_markdown
from loadtest.results import read_record, write_record
from loadtest.running import make_folder
from loadtest.scaling import page
from loadtest.scaling.capacity import render as render_capacity
from loadtest.scaling.cluster import CLUSTER_FILE, prove_in_cluster
from loadtest.scaling.cluster_page import cluster_document
from loadtest.scaling.proof import PROOF_FILE, Asked, Proof, prove, rejudge
from loadtest.verdict import EXIT_STATUS, Check, Outcome, Reason, Verdict

MEASUREMENTS = Path(__file__).parents[2] / "docs" / "measurements"
HTML_FILE = "hpa-proof.html"
MARKDOWN_FILE = "hpa-proof.md"
FULL = Asked(
    peak_pods=8.2,
    shape="tide",
    stage_seconds=33.0,
    curve_stage_seconds=8.0,
    curve_rate=100.0,
    speed=3.0,
    jobs=60,
    min_scale_ins=5,
)
SHORT = Asked(
    peak_pods=1.7,
    shape="tide",
    stage_seconds=6.0,
    curve_stage_seconds=5.0,
    curve_rate=100.0,
    speed=15.0,
    jobs=12,
    min_scale_ins=1,
    larger=False,
    minimum=1,
    maximum=3,
)


def add_hpa(commands: Any) -> None:
    """Add `hpa`."""
    command = commands.add_parser("hpa", help="the autoscaler's targets", description="Decide, prove, or watch.")
    ways = command.add_subparsers(dest="way", required=True)
    deciding = ways.add_parser("decide", help="answer scenarios on standard input with the controller's decisions")
    deciding.set_defaults(run=_decide)
    proving = ways.add_parser("prove", help="measure a pod, predict, scale real processes of this machine, judge")
    proving.add_argument("--out", type=Path, required=True, help="folder for the proof")
    proving.add_argument("--short", action="store_true", help="a short form with one to three pods")
    proving.add_argument("--peak-pods", type=float, help="height of the tide, in pods at their CPU target")
    proving.add_argument("--speed", type=float, help="how many times faster than a cluster the autoscaler is")
    proving.set_defaults(run=_prove)
    watching = ways.add_parser("cluster", help="send the tide to a cluster and watch its own autoscaler (KUBECONFIG)")
    watching.add_argument("--out", type=Path, required=True, help="folder for the proof")
    watching.add_argument("--namespace", default="feature-agent")
    watching.add_argument("--deployment", default="feature-agent-api", help="the Deployment and its autoscaler")
    watching.add_argument("--shape", default="tide", help="of the load")
    watching.add_argument("--min-scale-ins", type=int, default=3, help="pods that have to be taken away under load")
    add_traffic_options(watching)
    watching.set_defaults(run=_cluster)
    sizing = ways.add_parser("capacity", help="print docs/capacity.md by the figures of a proof")
    sizing.add_argument("folder", type=Path, nargs="?", default=MEASUREMENTS)
    sizing.set_defaults(run=_capacity)
    rendering = ways.add_parser("report", help="judge a proof's measurements again, and write its pages")
    rendering.add_argument("folder", type=Path)
    rendering.set_defaults(run=_report)


def _decide(_: argparse.Namespace) -> int:
    # What is no UTF-8 passes as surrogates, so that the message can name its line.
    lines = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", errors="surrogateescape")
    decide(lines, sys.stdout.write)
    return 0


def _prove(asked: argparse.Namespace) -> int:
    wanted = SHORT if asked.short else FULL
    given = {name: getattr(asked, name) for name in ("peak_pods", "speed") if getattr(asked, name) is not None}
    fields = {name: getattr(wanted, name) for name in wanted.__struct_fields__}
    folder = make_folder(asked.out)
    (folder / PROOF_FILE).unlink(missing_ok=True)
    proof = prove(Asked(**{**fields, **given}), load_slos(), folder, say)
    write_record(folder / PROOF_FILE, proof)
    _write_pages(folder, proof)
    return _conclude(proof.verdict, proof.checks, folder, proof.began, proof.ended)


def _write_pages(folder: Path, proof: Proof) -> None:
    document = page.document(proof)
    (folder / HTML_FILE).write_text(to_html(document), encoding="utf-8")
    (folder / MARKDOWN_FILE).write_text(to_markdown(document), encoding="utf-8")


def _report(asked: argparse.Namespace) -> int:
    proof = rejudge(read_record(asked.folder / PROOF_FILE, Proof))
    write_record(asked.folder / PROOF_FILE, proof)
    _write_pages(asked.folder, proof)
    sys.stdout.write(f"{asked.folder / HTML_FILE}\n")
    return 0


def _capacity(asked: argparse.Namespace) -> int:
    sys.stdout.write(render_capacity(read_record(asked.folder / PROOF_FILE, Proof)))
    return 0


def _cluster(asked: argparse.Namespace) -> int:
    slos = load_slos(asked.slo)
    folder = make_folder(asked.out)
    (folder / CLUSTER_FILE).unlink(missing_ok=True)
    with target_of(asked) as target:
        proof = prove_in_cluster(
            target,
            asked.namespace,
            asked.deployment,
            make_options(asked, asked.shape),
            slos,
            folder,
            say=say,
            min_scale_ins=asked.min_scale_ins,
        )
    write_record(folder / CLUSTER_FILE, proof)
    document = cluster_document(proof)
    (folder / "hpa-cluster.html").write_text(to_html(document), encoding="utf-8")
    (folder / "hpa-cluster.md").write_text(to_markdown(document), encoding="utf-8")
    return _conclude(proof.verdict, proof.checks, folder, proof.began, proof.began + proof.seconds)


def _conclude(outcome: Outcome, checks: list[Check], folder: Path, began: float, ended: float) -> int:
    """Write the verdict in the gate's own form, and say it."""
    reasons = [Reason(one.gate, one.measured, one.allowed, one.sentence) for one in checks if one.outcome != "pass"]
    verdict = Verdict(outcome, reasons, checks, "tide", "", "", began, ended)
    write_record(folder / "verdict.json", verdict)
    console.write(verdict, sys.stdout)
    sys.stdout.write(f"{folder}\n")
    return EXIT_STATUS[outcome]
