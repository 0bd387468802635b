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


def per_minute(name: str, *matchers: str) -> str:
    """Increase a minute of a counter of the service: for what happens less than once a second."""
    return f"60 * {rate(name, *matchers)}"


def counted(name: str, *matchers: str, by: tuple[str, ...]) -> str:
    """Increase a minute by labels, of those that counted anything in the board's time range: zeros say nothing."""
    anything = total(f"increase({series(name, *matchers)}[$__range] @ end())", *by)
    return f"{total(per_minute(name, *matchers), *by)} and {anything} > 0"


def over_range(name: str, *matchers: str) -> str:
    """Increase of a counter of the service over the whole time range of the board."""
    return f"increase({series(name, *matchers)}[$__range])"


def total(expression: str, *by: str) -> str:
    """Sum by labels, or over all."""
    return f"sum by ({', '.join(by)}) ({expression})" if by else f"sum({expression})"


def share(part: str, whole: str) -> str:
    """A ratio: no value while there is nothing to divide by, 0 while there is no part of it."""
    return f"({part} or 0 * {whole}) / ({whole} > 0)"


def quantile(q: float, histogram: str, *matchers: str, by: tuple[str, ...] = ()) -> str:
    """A quantile of a histogram of the service; series without an observation are left out, since theirs is NaN."""
    buckets = total(rate(f"{histogram}_bucket", *matchers), "le", *by)
    return f"histogram_quantile({q}, {buckets}) >= 0"


API_ANSWERS = 'max(up{job="feature-agent"}) == 1'
"""Whether any API process answers Prometheus: without one, what was counted is out of date."""


def while_answering(expression: str) -> str:
    """The value, without labels, while an API process answers; a rate would go on for a minute without one."""
    return f"{expression} and {API_ANSWERS}"


def unseen(job: str) -> str:
    """Seconds since any process of the job answered within the last day; no value while one does."""
    last = f'max(max_over_time(timestamp(up{{job="{job}"}} == 1)[1d:1m]))'
    return f'time() - {last} unless max(up{{job="{job}"}}) == 1'
