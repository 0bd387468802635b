"""`python -m observability.stack up | down | secrets`."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from observability.stack import secret_files
from observability.stack.engine import NoEngine, Stack, compose
from observability.stack.first_requests import Service, warm_up

ROOT = Path(__file__).parents[2]
SECRETS = ROOT / ".secrets"
HEALTHY_SECONDS = 300.0
"""For images that are there to become healthy; pulling and building them is not counted."""
LINKS = (
    ("Dashboards (user admin)", "GRAFANA_PORT", 3000, "/"),
    ("API documentation", "API_PORT", 8000, "/api/docs"),
    ("Traces", "JAEGER_PORT", 16686, "/"),
    ("Metrics and rules", "PROMETHEUS_PORT_PUBLISHED", 9090, "/alerts"),
    ("Alerts", "ALERTMANAGER_PORT", 9093, "/"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0; 1 with a line when it did not work."""
    parser = argparse.ArgumentParser(prog="python -m observability.stack", description=__doc__)
    parser.add_argument("command", choices=("up", "down", "secrets"))
    parser.add_argument("--volumes", action="store_true", help="down: throw the data away as well")
    options = parser.parse_args(arguments)
    try:
        if options.command == "secrets":
            secret_files.make(SECRETS)
        elif options.command == "down":
            Stack(ROOT, compose()).run("--profile", "load", "down", *(["--volumes"] if options.volumes else []))
        else:
            return up(Stack(ROOT, compose()))
    except (NoEngine, OSError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def up(stack: Stack) -> int:
    """Start everything, wait until it is healthy, make a key, send first requests, say where things are."""
    secret_files.make(SECRETS)
    stack.run("build", "api")
    stack.run("up", "--detach")
    _say("Waiting until everything is healthy …")
    sick = stack.wait(HEALTHY_SECONDS)
    if sick:
        _say("Not healthy: " + ", ".join(f"{name} ({state})" for name, state in sorted(sick.items())))
        return 1
    service = Service(f"http://127.0.0.1:{_port('API_PORT', 8000)}", _key(stack))
    _say(f"First requests answered {', '.join(map(str, warm_up(service)))}.")
    for title, variable, default, path in LINKS:
        _say(f"  {title:<24} http://localhost:{_port(variable, default)}{path}")
    _say(f"  {'Password of Grafana':<24} {(SECRETS / 'grafana_password').relative_to(ROOT)}")
    _say(f"  {'API key':<24} {(SECRETS / 'api_key').relative_to(ROOT)}")
    return 0


def _key(stack: Stack) -> str:
    """The local API key: the one that is kept, or a new one when the service does not know it."""
    file = SECRETS / "api_key"
    kept = file.read_text(encoding="utf-8").strip()
    if Service(f"http://127.0.0.1:{_port('API_PORT', 8000)}", kept).knows_the_key():
        return kept
    made = stack.run("exec", "-T", "api", "feature-agent", "keys", "create", "--name", "local", "--json", quiet=True)
    key = str(json.loads(made)["key"])
    secret_files.replace(file, key)
    return key


def _port(variable: str, default: int) -> int:
    return int(os.environ.get(variable, default))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
