"""Scenarios of the HorizontalPodAutoscaler with the decisions of the real controller of Kubernetes 1.34."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

import msgspec

from loadtest.hpa import algorithm
from loadtest.hpa.forms import read_form
from loadtest.hpa.world import Scenario, Sync, play

FOLDER = Path(__file__).parents[1] / "fixtures" / "hpa"
FILES = ("decisions", "variations")


@cache
def recorded(name: str) -> list[tuple[Scenario, list[dict[str, Any]]]]:
    """Return the scenarios of a file and what the controller decided."""
    lines = gzip.decompress((FOLDER / f"{name}.jsonl.gz").read_bytes()).splitlines()
    rows = [msgspec.json.decode(line) for line in lines]
    return [(read_form(row["scenario"], Scenario), row["decisions"]) for row in rows]


def differences(name: str, sync: Sync = algorithm.sync) -> Iterator[str]:
    """Yield the first difference of each scenario of a file."""
    for scenario, decisions in recorded(name):
        for found, wanted in zip_longest(play(scenario, sync), decisions):
            if msgspec.to_builtins(found) != wanted:
                yield f"{scenario.id}: {found} instead of {wanted}"
                break
