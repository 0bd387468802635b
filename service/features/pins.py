"""Pin the versions of datasets that an extraction reads."""

from __future__ import annotations

from contextlib import suppress

from msgspec import structs

from service.features.errors import DatasetNotFound
from service.features.model import Dataset, DatasetPin, ExtractionRequest
from service.features.stores import UnitOfWork


def pinned(request: ExtractionRequest, *datasets: Dataset) -> ExtractionRequest:
    """Have the request read these versions of these datasets, whatever replaces them."""
    pins = {dataset.id: DatasetPin(dataset.version, dataset.artifact_key) for dataset in datasets}
    return structs.replace(request, pins=request.pins | pins)


async def read_pinned(work: UnitOfWork, owner: str, request: ExtractionRequest, dataset_id: str) -> Dataset:
    """Return the version of the dataset that the request has pinned; the current one without a pin.

    Raises DatasetNotFound, also when the dataset was deleted and uploaded again, and when an extraction is run once
    more after its version was deleted.
    """
    pin = request.pins.get(dataset_id)
    if pin is None:
        return await work.datasets.get(owner, dataset_id)
    with suppress(DatasetNotFound):
        dataset = await work.datasets.get(owner, dataset_id, pin.version)
        if dataset.artifact_key == pin.artifact_key:
            return dataset
    raise DatasetNotFound(f"Version {pin.version} of the dataset, which the extraction was accepted for, was deleted.")
