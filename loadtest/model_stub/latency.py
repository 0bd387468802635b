"""Latency distributions: files of quantiles, recorded from a service's metrics or assumed, as each file says."""

from __future__ import annotations

import bisect
import random
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from loadtest.errors import BadInput
from loadtest.measure.selector import Selector, Values

LATENCIES = Path(__file__).with_name("latencies")
METRIC = "model_request_duration_seconds"

MAX_SECONDS = 600.0
Quantile = Annotated[float, Meta(ge=0, le=1)]
Seconds = Annotated[float, Meta(ge=0, le=MAX_SECONDS)]


class Latency(Struct, frozen=True, forbid_unknown_fields=True):
    """How long a model takes to answer."""

    source: str
    """Where the figures are from."""
    quantiles: tuple[tuple[Quantile, Seconds], ...]
    """(share of the answers, seconds within which they came), rising from (0, …) to (1, …)."""

    def __post_init__(self) -> None:
        """Refuse what is no distribution."""
        shares = [share for share, _ in self.quantiles]
        seconds = [second for _, second in self.quantiles]
        if len(shares) < 2 or shares[0] != 0 or shares[-1] != 1:  # noqa: PLR2004 - a first and a last
            raise ValueError("`quantiles` begins with the share 0 and ends with 1")
        if shares != sorted(set(shares)) or seconds != sorted(seconds):
            raise ValueError("`quantiles` must rise in both members")

    def draw(self, chance: random.Random) -> float:
        """Give the seconds of one answer, by the inverse of the distribution."""
        share = chance.random()
        index = max(1, bisect.bisect_left([quantile for quantile, _ in self.quantiles], share))
        (left, low), (right, high) = self.quantiles[index - 1], self.quantiles[index]
        return low + (high - low) * (share - left) / (right - left)


def names() -> list[str]:
    """Give the distributions that come with the load test."""
    return sorted(path.stem for path in LATENCIES.glob("*.json"))


def load_latency(name: str) -> Latency:
    """Read a distribution by its name, or from a file. Raises BadInput."""
    path = LATENCIES / f"{name}.json" if name in names() else Path(name)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Latency)
    except OSError:
        raise BadInput(f"model: {name}: take builtin, {', '.join(names())}, or a file like theirs") from None
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise BadInput(f"model: {path}: {error}") from None


def from_metrics(values: Values, model: str, source: str) -> Latency:
    """Make a distribution of a service's histogram of a model's answers. Raises BadInput without any."""
    selector = Selector(METRIC)
    buckets: dict[float, float] = {}
    for series, value in values.items():
        if selector.picks(series, "_bucket", {"model": model}):
            bound = float(dict(series.labels)["le"])
            buckets[bound] = buckets.get(bound, 0.0) + value  # of every process, whatever its other labels
    whole = max(buckets.values(), default=0.0)
    if whole == 0:
        raise BadInput(f"the service has no answer of the model {model!r} in {METRIC}")
    quantiles: list[tuple[float, float]] = [(0.0, 0.0)]
    for bound in sorted(buckets):
        share = round(buckets[bound] / whole, 6)
        if share > quantiles[-1][0] and bound != float("inf"):
            quantiles.append((share, min(bound, MAX_SECONDS)))
    if quantiles[-1][0] < 1:  # beyond the last bound a histogram says no more
        last = max((bound for bound in buckets if bound != float("inf")), default=0.0)
        quantiles.append((1.0, min(2 * last, MAX_SECONDS)))
    return Latency(source, tuple(quantiles))
