"""A scenario file: which clients come, and what data they bring."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from loadtest.errors import BadInput

SCENARIOS = Path(__file__).parents[1] / "scenarios"
DEFAULT = SCENARIOS / "default.yaml"

Weight = Annotated[float, Meta(ge=0, le=1e6)]
Share = Annotated[float, Meta(ge=0, le=1)]


class Mix(Struct, frozen=True, forbid_unknown_fields=True):
    """Relative frequency of each kind of client."""

    poll_status: Weight = 0
    read_result: Weight = 0
    download_table: Weight = 0
    list_extractions: Weight = 0
    extract_and_wait: Weight = 0
    extract_and_poll: Weight = 0
    follow_events: Weight = 0
    upload: Weight = 0
    bad_client: Weight = 0

    def weights(self) -> dict[str, float]:
        """Give the kinds that come at all."""
        return {kind: weight for kind in self.__struct_fields__ if (weight := getattr(self, kind)) > 0}


ASKING = ("extract_and_wait", "extract_and_poll", "follow_events")
"""Kinds of clients that ask for features."""


class Data(Struct, frozen=True, forbid_unknown_fields=True):
    """The data pool."""

    datasets: Annotated[int, Meta(ge=0, le=1000)] = 4
    rows: Annotated[int, Meta(ge=1, le=5_000_000)] = 400
    seed: int = 7
    sentences: tuple[str, ...] | None = None
    """Requests in words; None takes the pool's own."""


class Scenario(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    rate: Annotated[float, Meta(gt=0, le=100_000)]
    """Arrivals a second that the service promises to take."""
    mix: Mix
    data: Data = Data()
    repeat_share: Share = 0.25
    model: str = "builtin"

    @property
    def asking_share(self) -> float:
        """Share of the clients that ask for features."""
        weights = self.mix.weights()
        return sum(weights.get(kind, 0) for kind in ASKING) / sum(weights.values())


def load_scenario(path: Path) -> tuple[Scenario, str]:
    """Read a scenario and a digest of its contents. Raises BadInput, naming the file and the field."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"--scenario {path}: cannot be read: {error.strerror}") from None
    try:
        scenario = msgspec.yaml.decode(content, type=Scenario)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise BadInput(f"--scenario {path}: {' '.join(str(error).split())}") from None
    if not scenario.mix.weights():
        raise BadInput(f"--scenario {path}: mix: no client has a weight above 0")
    if scenario.data.datasets == 0 or scenario.data.sentences == ():
        raise BadInput(f"--scenario {path}: data: the pool is empty; it needs at least one dataset and one sentence")
    return scenario, hashlib.sha256(content).hexdigest()[:12]
