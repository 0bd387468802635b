"""`python -m evals`: run a model through the cases. Exit status: 0 good, 1 worse than committed, 2 bad input."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from evals.gate import Decision, decide
from evals.planner import Effort, Ledger, open_planner
from evals.report import (
    RESULTS,
    read_committed,
    render_effort,
    render_failures,
    render_file,
    render_table,
    results_path,
    tallies,
)
from evals.run import CaseResult, run_cases
from evals.suite import EvalCase, load_cases
from service.agents.configuration_error import ModelConfigurationError
from service.settings import BUILTIN_MODEL, Settings, SettingsError, load_settings

Results = tuple[CaseResult, ...]


class InputRefused(Exception):
    """Bad input or settings: one line, exit status 2."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--model", default=BUILTIN_MODEL, show_default=True, help="As PRIMARY_MODEL takes it.")
@click.option("--check", is_flag=True, help="Compare with the committed table instead of writing it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--only", metavar="TAG", help="Only the cases of this tag; the table is left as it is.")
@click.option("--concurrency", type=click.IntRange(1, 64), default=4, show_default=True, help="Cases at once.")
@click.option("--results", type=click.Path(path_type=Path, file_okay=False), default=RESULTS, help="Folder of tables.")
def cli(*, model: str, check: bool, as_json: bool, only: str | None, concurrency: int, results: Path) -> int:
    """Measure a planner: each case is a dataset's profile and a sentence, with the properties of a good plan.

    Keys and addresses are read as the service reads them, from the environment and `.env`.
    """
    cases = _chosen(only)
    path = results_path(model, results)
    committed = _committed(path, model) if check else {}
    found, effort = asyncio.run(_run(_settings(model), cases, concurrency))
    decision = decide(found, committed, partial=only is not None) if check else Decision((), ())
    if not check and only is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render_file(model, found, effort))
    click.echo(_as_json(model, found, effort, decision) if as_json else _as_text(found, effort, decision))
    if not check and only is None:
        click.echo(f"Written: {path}", err=True)
    return 1 if decision.faults else 0


def _chosen(only: str | None) -> tuple[EvalCase, ...]:
    cases = load_cases()
    if only is None:
        return cases
    chosen = tuple(case for case in cases if only in case.tags)
    if not chosen:
        tags = sorted({tag for case in cases for tag in case.tags})
        raise InputRefused(f"no case has the tag {only!r}; there are {', '.join(tags)}")
    return chosen


def _settings(model: str) -> Settings:
    try:
        return load_settings(primary_model=model)
    except SettingsError as error:
        raise InputRefused(str(error)) from error


def _committed(path: Path, model: str) -> dict[str, bool]:
    if not path.is_file():
        raise InputRefused(f"there is no table to compare with: write it first with `make eval MODEL={model}`")
    return read_committed(path.read_text())


async def _run(settings: Settings, cases: tuple[EvalCase, ...], concurrency: int) -> tuple[Results, Effort]:
    ledger = Ledger()
    try:
        planner = open_planner(settings, ledger)
    except ModelConfigurationError as error:
        raise InputRefused(str(error)) from error
    async with planner:
        found = await run_cases(planner, cases, concurrency=concurrency)
    return found, ledger.effort()


def _as_text(results: Results, effort: Effort, decision: Decision) -> str:
    parts = [render_failures(results), render_table(results), render_effort(results, effort)]
    if decision.news:
        listed = "\n".join(decision.news)
        parts.append(f"{listed}\nWrite the table again with `make eval` and commit it.")
    if decision.faults:
        parts.append("\n".join(f"FAULT {fault}" for fault in decision.faults))
    return "\n\n".join(part for part in parts if part)


def _as_json(model: str, results: Results, effort: Effort, decision: Decision) -> str:
    document: dict[str, Any] = {
        "model": model, "tallies": tallies(results), "cases": results, "effort": effort,
        "faults": decision.faults, "news": decision.news,
    }  # fmt: skip
    return msgspec.json.encode(document).decode()


def main(arguments: list[str] | None = None) -> int:
    """Run the command and give its exit status."""
    try:
        status = cli.main(args=arguments, prog_name="python -m evals", standalone_mode=False)
    except click.ClickException as error:
        return _refused(error.format_message())
    except InputRefused as error:
        return _refused(str(error))
    return status if isinstance(status, int) else 0


def _refused(message: str) -> int:
    click.echo(f"evals: {' '.join(message.split())}", err=True)
    return 2


if __name__ == "__main__":
    sys.exit(main())
