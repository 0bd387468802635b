"""The commands `run`, `gate` and `report`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from loadtest.errors import BadInput, NotMeasured
from loadtest.gate import judge
from loadtest.local import local_service
from loadtest.locust_processes import Target
from loadtest.measure.indicators import SLO_FILE, Slo, load_slos, routes_of
from loadtest.regression import BASELINE_FILE, Baseline, load_baseline, write_baseline
from loadtest.report import console, junit, page
from loadtest.report.grafana import annotate
from loadtest.report.objectives import Objective
from loadtest.results import RUN_FILE, Run, read_record, write_record
from loadtest.running import make_folder, new_run_id, run
from loadtest.traffic.key import key as key_of_environment
from loadtest.traffic.plan import WARM_UP_SECONDS, Options, make_plan
from loadtest.traffic.scenario import DEFAULT, load_scenario
from loadtest.traffic.shapes import SHAPES
from loadtest.verdict import EXIT_STATUS, VERDICT_FILE, Check, Reason, Verdict

REPORT_FILE = "report.html"
JUNIT_FILE = "verdict.xml"
Commands = Any
"""argparse's own type of a group of subcommands is private."""


def say(sentence: str) -> None:
    """Print progress, with the time of day."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')}  {sentence}\n")
    sys.stderr.flush()


def add_traffic_options(command: argparse.ArgumentParser) -> None:
    """Add what says which load to send where."""
    command.add_argument("--host", help="address of the service; none starts the one of this checkout")
    command.add_argument("--key", help="API key; better in FEATURE_AGENT_KEY, or in the file FEATURE_AGENT_KEY_FILE")
    command.add_argument("--metrics", action="append", default=[], metavar="URL", help=METRICS_HELP)
    command.add_argument("--scenario", default=str(DEFAULT), metavar="FILE", help="which clients come, with which data")
    command.add_argument("--rate", type=float, help="arrivals a second in place of the scenario's")
    command.add_argument("--stage-seconds", type=float, help="length of a stage in place of the shape's own")
    command.add_argument("--warm-up-seconds", type=float, default=WARM_UP_SECONDS, help="of a stage that is not judged")
    command.add_argument("--generators", type=int, default=1, help="processes of Locust that share the arrivals")
    command.add_argument("--seed", type=int, default=1, help="of the moments of the arrivals")
    command.add_argument("--slo", type=Path, default=SLO_FILE, metavar="FILE", help="the objectives")


METRICS_HELP = (
    "metrics of a process of the service, once for each process; dns+http://name:port/metrics is every address of a "
    "name, file+PATH every address in a file; none takes the host's /metrics,"
    " which a service in development or test has"
)
SHAPES_HELP = "; ".join(f"{name}: {meaning}" for name, (meaning, _, _) in SHAPES.items())


def add_run(commands: Commands) -> None:
    """Add `run`."""
    command = commands.add_parser("run", help="send load and write run.json", description="Send load; judge nothing.")
    command.add_argument("--shape", default="smoke", help=SHAPES_HELP)
    command.add_argument("--out", type=Path, required=True, help="folder for the results")
    add_traffic_options(command)
    command.set_defaults(run=_run)


def add_gate(commands: Commands) -> None:
    """Add `gate`."""
    command = commands.add_parser("gate", help="send load and judge the service by it", description="Say yes or no.")
    command.add_argument("--shape", action="append", help=f"several are run one after another. {SHAPES_HELP}")
    command.add_argument("--out", type=Path, help="folder for verdict.json, verdict.xml, report.html and run.json")
    command.add_argument("--baseline", type=Path, default=BASELINE_FILE, metavar="FILE", help="costs of earlier runs")
    command.add_argument("--write-baseline", action="store_true", help="keep the costs of this run there")
    command.add_argument("--grafana", metavar="URL", help="annotate this Grafana; its token is in GRAFANA_TOKEN")
    command.add_argument("--schema", action="store_true", help="print the JSON schema of verdict.json")
    add_traffic_options(command)
    command.set_defaults(run=_gate)


def add_report(commands: Commands) -> None:
    """Add `report`."""
    command = commands.add_parser("report", help="write the report of a gate again", description="Render a verdict.")
    command.add_argument("folder", type=Path, help="the gate's --out")
    command.set_defaults(run=_report)


# -- run ---------------------------------------------------------------------------------------------------------


def _run(asked: argparse.Namespace) -> int:
    slos = load_slos(asked.slo)
    options = make_options(asked, asked.shape)
    with target_of(asked) as target:
        run(target, options, slos, make_folder(asked.out), say)
    sys.stdout.write(f"{asked.out / RUN_FILE}\n")
    return 0


def make_options(asked: argparse.Namespace, shape: str) -> Options:
    """Give the options of a run. Raises BadInput."""
    if asked.generators < 1:
        raise BadInput(f"--generators {asked.generators}: at least one process has to send")
    options = Options(
        shape=shape,
        run_id=new_run_id(),
        scenario=str(Path(asked.scenario).absolute()),
        rate=asked.rate,
        stage_seconds=asked.stage_seconds,
        warm_up_seconds=asked.warm_up_seconds,
        seed=asked.seed,
        generators=asked.generators,
    )
    make_plan(options)  # refuses what cannot be run, before a service is started for it
    return options


@contextmanager
def target_of(asked: argparse.Namespace) -> Generator[Target]:
    """Give the service that was named, or start one."""
    if asked.host is not None:
        yield Target(asked.host, asked.key or key_of_environment(), tuple(asked.metrics))
        return
    scenario, _ = load_scenario(Path(asked.scenario))
    say("starting the service of this checkout")
    with local_service(scenario.model) as service:
        yield Target(service.host, service.key)


# -- gate --------------------------------------------------------------------------------------------------------


def _gate(asked: argparse.Namespace) -> int:
    if asked.schema:
        sys.stdout.write(json.dumps(msgspec.json.schema(Verdict), indent=2) + "\n")
        return 0
    if asked.out is None:
        raise BadInput("gate: --out FOLDER is needed")
    folder = make_folder(asked.out)
    for name in (VERDICT_FILE, JUNIT_FILE, REPORT_FILE):
        (folder / name).unlink(missing_ok=True)  # what an earlier gate said must not outlive a failure of this one
    slos, baseline = load_slos(asked.slo), load_baseline(asked.baseline)
    shapes = asked.shape or ["smoke"]
    planned = [make_options(asked, shape) for shape in shapes]
    try:
        runs = _runs(asked, planned, slos, folder)
    except NotMeasured as error:
        return _conclude(asked, _unmeasured(asked, str(error)), [])
    verdict = judge(runs, slos, baseline)
    if asked.write_baseline:
        _keep(asked.baseline, baseline, runs, verdict)
    return _conclude(asked, verdict, runs)


def _runs(asked: argparse.Namespace, planned: Sequence[Options], slos: Sequence[Slo], folder: Path) -> list[Run]:
    with target_of(asked) as target:
        runs: list[Run] = []
        for options in planned:
            say(f"{options.shape}: {SHAPES[options.shape][0]}" if options.shape in SHAPES else options.shape)
            own = make_folder(folder / options.shape) if len(planned) > 1 else folder
            runs.append(run(target, options, slos, own, say))
        return runs


def _keep(path: Path, baseline: Baseline, runs: Sequence[Run], verdict: Verdict) -> None:
    """Write the baseline, unless the runs are none to compare with; that they cost more is what a new one is for."""
    if any(reason.gate != "regression" for reason in verdict.reasons):
        say(f"{path} is left as it was: the run did not pass")
        return
    for one in runs:
        baseline = baseline.with_run(one)
    write_baseline(path, baseline)


def _unmeasured(asked: argparse.Namespace, sentence: str) -> Verdict:
    now = time.time()
    return Verdict(
        verdict="not_measured",
        reasons=[Reason("machine", None, None, sentence)],
        checks=[Check("machine", "not_measured", None, None, sentence)],
        shape=",".join(asked.shape or ["smoke"]),
        host=asked.host or "",
        run_id="",
        began=now,
        ended=now,
    )


def _conclude(asked: argparse.Namespace, verdict: Verdict, runs: Sequence[Run]) -> int:
    """Write every form of the verdict, and say it."""
    write_record(asked.out / VERDICT_FILE, verdict)
    _write_documents(asked.out, verdict, runs, load_slos(asked.slo))
    if asked.grafana:
        warning = annotate(asked.grafana, os.environ.get("GRAFANA_TOKEN", ""), verdict, runs)
        if warning is not None:
            say(warning)
    console.write(verdict, sys.stdout)
    sys.stdout.write(f"report: {asked.out / REPORT_FILE}\n")
    return EXIT_STATUS[verdict.verdict]


def _write_documents(folder: Path, verdict: Verdict, runs: Sequence[Run], slos: Sequence[Slo]) -> None:
    bounds = {slo.name: None if slo.sli.within is None else 1000 * slo.sli.within for slo in slos}
    objectives = [Objective(slo.name, slo.objective, bounds[slo.name], routes_of(slo, runs)) for slo in slos]
    (folder / JUNIT_FILE).write_text(junit.render(verdict), encoding="utf-8")
    (folder / REPORT_FILE).write_text(page.render(verdict, runs, objectives), encoding="utf-8")


def _report(asked: argparse.Namespace) -> int:
    verdict = read_record(asked.folder / VERDICT_FILE, Verdict)
    folders = [asked.folder, *(asked.folder / shape for shape in verdict.shape.split(","))]
    runs = [read_record(folder / RUN_FILE, Run) for folder in folders if (folder / RUN_FILE).exists()]
    _write_documents(asked.folder, verdict, runs, load_slos())
    sys.stdout.write(f"{asked.folder / REPORT_FILE}\n")
    return 0
