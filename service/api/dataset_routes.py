"""`/datasets`: upload, list, describe, delete."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import partial

from litestar import Response, delete, get, post
from litestar.openapi.spec import OpenAPIFormat, OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema

from service.api.decoding import ApiRequest
from service.api.guards import reads_datasets, takes, writes_datasets
from service.api.parameters import LOCATION, Cursor, DatasetIdPath, DatasetIdQuery, Limit
from service.api.problems import PROTECTED, documented
from service.api.progress import while_connected
from service.api.quota_headers import QUOTA_HEADERS, quota_headers
from service.api.schemas import DatasetAnswer, DatasetListAnswer, DatasetPage
from service.api.services import Config, Services
from service.api.uploads import MEDIA_TYPES, open_upload
from service.api.views import dataset_path, dataset_summary, dataset_view


@dataclass
class UploadOperation(Operation):
    """Document the request bodies that `open_upload` reads from the stream itself."""

    def __post_init__(self) -> None:
        binary = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)
        form = Schema(type=OpenAPIType.OBJECT, properties={"file": binary}, required=["file"])
        self.request_body = RequestBody(
            required=True,
            description="The table, as it is or as the first file of a form; the first row of a CSV is its header.",
            content={
                **{media_type: OpenAPIMediaType(schema=binary) for media_type in MEDIA_TYPES},
                "text/csv": OpenAPIMediaType(schema=binary, example="user_id,amount\n1,0.5\n2,9\n"),
                "multipart/form-data": OpenAPIMediaType(schema=form),
            },
        )


@post(
    "/datasets",
    operation_id="upload_dataset",
    operation_class=UploadOperation,
    tags=["datasets"],
    summary="Upload a dataset",
    opt=writes_datasets | takes("upload"),
    request_max_body_size=None,
    response_headers=[LOCATION, *QUOTA_HEADERS],
    response_description="The dataset with its profile.",
    responses=documented(
        *PROTECTED, "dataset_exists", "payload_too_large", "dataset_too_large", "media_type_unsupported",
        "request_invalid", "dataset_unreadable", "quota_exceeded", "too_many_at_once",
    ),
)  # fmt: skip
async def upload_dataset(
    request: ApiRequest, services: Services, config: Config, dataset_id: DatasetIdQuery = None
) -> Response[DatasetAnswer]:
    """The body is streamed to the artifact store, read into typed columns, and profiled.

    Without `dataset_id` an id is made up.
    """
    upload = await open_upload(request, config.max_upload_bytes)
    new_id = dataset_id or f"ds-{secrets.token_hex(8)}"
    length = request.content_length or 0
    dataset = await services.upload(
        request.user.id,
        new_id,
        upload.media_type,
        upload.chunks,
        announced_bytes=length,
        while_wanted=partial(while_connected, request),
    )
    left = quota_headers(await services.quotas.use_of(request.user.id), services.quotas.limits)
    return Response(DatasetAnswer.of(dataset_view(dataset)), headers={"Location": dataset_path(dataset.id)} | left)


@get(
    "/datasets",
    operation_id="list_datasets",
    tags=["datasets"],
    summary="List your datasets",
    opt=reads_datasets,
    response_description="A page of datasets, newest first.",
    responses=documented(*PROTECTED, "request_invalid"),
)
async def list_datasets(
    request: ApiRequest, services: Services, limit: Limit = 20, cursor: Cursor = None
) -> DatasetListAnswer:
    """Newest first."""
    async with services.store.begin() as work:
        page = await work.datasets.list(request.user.id, limit=limit, cursor=cursor)
    items = tuple(dataset_summary(dataset) for dataset in page.items)
    return DatasetListAnswer.of(DatasetPage(items, page.next_cursor))


@get(
    "/datasets/{dataset_id:str}",
    operation_id="get_dataset",
    tags=["datasets"],
    summary="Describe a dataset",
    opt=reads_datasets,
    response_description="The dataset with its profile.",
    responses=documented(*PROTECTED, "dataset_not_found"),
)
async def get_dataset(request: ApiRequest, services: Services, dataset_id: DatasetIdPath) -> DatasetAnswer:
    """Its columns with their types and statistics; never a row."""
    async with services.store.begin() as work:
        dataset = await work.datasets.get(request.user.id, dataset_id)
    return DatasetAnswer.of(dataset_view(dataset))


@delete(
    "/datasets/{dataset_id:str}",
    operation_id="delete_dataset",
    tags=["datasets"],
    summary="Delete a dataset",
    opt=writes_datasets,
    response_description="The dataset is gone.",
    responses=documented(*PROTECTED, "dataset_not_found"),
)
async def delete_dataset(request: ApiRequest, services: Services, dataset_id: DatasetIdPath) -> None:
    """Removes the data and its profile; extractions that were made from it stay."""
    await services.upload.remove(request.user.id, dataset_id)
