"""The command `feature-agent demo`."""

from __future__ import annotations

from pathlib import Path

import click

from tools.demo.run import run_demo


@click.command()
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the demo's database and files here. Default: a temporary folder.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def demo(data_dir: Path | None, *, as_json: bool) -> int:
    """Start the service, upload a sample event log, extract features, and show the trace, logs and metrics of it."""
    return run_demo(data_dir=data_dir, as_json=as_json)
