"""Fragments of PromQL that every board uses, so that a selector is spelled in one place."""

from __future__ import annotations

TARGET = 'job=~"$job",instance=~"$instance"'
"""What the board's variables select."""
OWN_JOBS = 'job=~"feature-agent.*"'
"""For `up`, `process_*` and `python_*`, which every target of Prometheus has: `All` must not mean other programs."""


def series(name: str, *matchers: str) -> str:
    """The service's series of that name, of the chosen jobs and instances."""
    return f"{name}{{{','.join((TARGET, *matchers))}}}"


def process(name: str, *matchers: str) -> str:
    """Likewise for a metric that not only the service has."""
    return series(name, OWN_JOBS, *matchers)


def rate(name: str, *matchers: str) -> str:
    """Increase a second of a counter of the service."""
    return f"rate({series(name, *matchers)}[$__rate_interval])"


def over_range(name: str, *matchers: str) -> str:
    """Increase of a counter of the service over the whole time range of the board."""
    return f"increase({series(name, *matchers)}[$__range])"


def total(expression: str, *by: str) -> str:
    """Sum by labels, or over all."""
    return f"sum by ({', '.join(by)}) ({expression})" if by else f"sum({expression})"


def share(part: str, whole: str) -> str:
    """A ratio that is 0, not NaN, while there is nothing to divide by."""
    return f"{part} / clamp_min({whole}, 1e-9)"


def quantile(q: float, histogram: str, *matchers: str, by: tuple[str, ...] = ()) -> str:
    """A quantile of a histogram of the service; series without an observation are left out, since theirs is NaN."""
    buckets = total(rate(f"{histogram}_bucket", *matchers), "le", *by)
    return f"histogram_quantile({q}, {buckets}) >= 0"
