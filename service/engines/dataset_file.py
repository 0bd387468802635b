"""Open the file of a dataset, which may have been deleted since its extraction began."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from service.features.errors import DatasetNotFound
from service.features.model import Dataset
from service.features.ports import Files


@asynccontextmanager
async def dataset_file(artifacts: Files, dataset: Dataset) -> AsyncGenerator[Path]:
    """Give the dataset's file. Raises DatasetNotFound when the dataset was deleted meanwhile."""
    async with AsyncExitStack() as stack:
        try:
            path = await stack.enter_async_context(artifacts.local(dataset.artifact_key))
        except FileNotFoundError:
            raise deleted() from None
        yield path


def deleted() -> DatasetNotFound:
    """Return the error for a dataset that was there when its extraction began."""
    return DatasetNotFound("The dataset was deleted before its features were computed.")
