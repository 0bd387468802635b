"""Charts over time: what the service's processes used and what they had in hand, with the stages behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from loadtest.report.document import Band, Block, Bound, LineChart, Point, Section, Series, Text
from loadtest.report.formats import number
from loadtest.results import Run, ServicePoint


def service_section(run: Run) -> Section:
    """Show the service over the run, by its own metrics."""
    points = run.service.points
    if len(points) < 2:  # noqa: PLR2004 - a line has two ends
        return Section("Service over time", (Text("The service's metrics were not read often enough to draw them."),))
    charts: tuple[Block, ...] = (_cpu(run), _memory(run), _requests(run), _extractions(run), _oldest(run))
    return Section("Service over time", (Text("By the service's own metrics; the stages are shaded."), *charts))


def cores(points: Sequence[ServicePoint]) -> list[Point]:
    """Compute the CPU cores in use between two looks; a gap where the count fell, which a restart does."""
    used: list[Point] = []
    for before, after in pairwise(points):
        seconds, spent = after.at - before.at, after.cpu_seconds - before.cpu_seconds
        used.append((after.at, spent / seconds if seconds > 0 and spent >= 0 else None))
    return used


def _cpu(run: Run) -> LineChart:
    """Draw the CPU cores in use, with the limit when there is one."""
    limit = run.service.cpu_limit_cores
    bounds = (Bound(limit, f"limit {number(limit)} cores"),) if limit else ()
    used = tuple((at - run.began, value) for at, value in cores(run.service.points))
    return _chart(run, "CPU of all processes", (Series("cores in use", used),), "cores", bounds)


def _memory(run: Run) -> LineChart:
    """Draw the memory of the largest process, with the smallest limit."""
    limit = run.service.memory_limit_mib
    bounds = (Bound(limit, f"limit {number(limit)} MiB"),) if limit > 0 else ()
    line = _line(run, "resident memory", lambda point: point.memory_mib)
    return _chart(run, "Memory of the process with the most", (line,), "MiB", bounds)


def _requests(run: Run) -> LineChart:
    """Draw the requests that the service was answering."""
    return _chart(run, "Requests in flight", (_line(run, "requests", lambda point: point.in_flight),))


def _extractions(run: Run) -> LineChart:
    """Draw the extractions that waited and those that ran."""
    lines = (_line(run, "queued", lambda point: point.queued), _line(run, "running", lambda point: point.active))
    return _chart(run, "Extractions queued and running", lines)


def _oldest(run: Run) -> LineChart:
    """Draw how long the first extraction in the queue has waited."""
    line = _line(run, "age of the oldest queued extraction", lambda point: point.oldest_seconds)
    return _chart(run, "Wait in the queue", (line,), "seconds")


def _line(run: Run, name: str, read: Callable[[ServicePoint], float]) -> Series:
    """Read one line from the points."""
    return Series(name, tuple((point.at - run.began, read(point)) for point in run.service.points))


def _chart(
    run: Run, title: str, series: tuple[Series, ...], y_unit: str = "", bounds: tuple[Bound, ...] = ()
) -> LineChart:
    """Draw lines over the run's stages."""
    bands = tuple(Band(stage.began - run.began, stage.ended - run.began, stage.name) for stage in run.stages)
    return LineChart(title=title, series=series, y_unit=y_unit, bands=bands, bounds=bounds)
