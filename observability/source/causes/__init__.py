"""Every alert beside the objectives, by the file that it is rendered to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from observability.source.causes import (
    api,
    dependencies,
    disk,
    jobs,
    model,
    monitoring,
    outside,
    postgres,
    saturation,
)
from observability.source.causes.cause import Cause

CAUSES: Mapping[str, Sequence[Cause]] = {
    "api": api.CAUSES,
    "jobs": jobs.CAUSES,
    "model": model.CAUSES,
    "dependencies": dependencies.CAUSES,
    "saturation": saturation.CAUSES,
    "monitoring": monitoring.CAUSES,
    "outside": outside.CAUSES,
    "postgres": postgres.CAUSES,
    "disk": disk.CAUSES,
}
