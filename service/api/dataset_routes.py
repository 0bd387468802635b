"""`/datasets`: upload, list, describe, change, delete."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import partial

from litestar import Response, delete, get, patch, post
from litestar.openapi.spec import (
    OpenAPIFormat,
    OpenAPIMediaType,
    OpenAPIType,
    Operation,
    Reference,
    RequestBody,
    Schema,
)
from litestar.params import JSONBody

from service.api.decoding import ApiRequest
from service.api.guards import reads_datasets, takes, writes_datasets
from service.api.parameters import LOCATION, Cursor, DatasetIdPath, DatasetIdQuery, Limit, Replace, Zone
from service.api.problems import PROTECTED, documented
from service.api.progress import while_connected
from service.api.quota_headers import QUOTA_HEADERS, quota_headers
from service.api.read_options import ReadOptionsBody
from service.api.schemas import DatasetAnswer, DatasetListAnswer, DatasetPage, DatasetView
from service.api.services import Config, Services
from service.api.uploads import MEDIA_TYPES, open_upload, read_options
from service.api.views import dataset_path, dataset_summary, dataset_view
from service.features.errors import InvalidRequest
from service.features.joins import joining, suggested
from service.features.model import Dataset, FieldError


@dataclass
class UploadOperation(Operation):
    """Document the request bodies that `open_upload` reads from the stream itself."""

    def __post_init__(self) -> None:
        binary = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)
        options = Reference(ref="#/components/schemas/ReadOptionsBody")
        form = Schema(type=OpenAPIType.OBJECT, properties={"options": options, "file": binary}, required=["file"])
        self.request_body = RequestBody(
            required=True,
            description=(
                "The table, as it is or as the first file of a form; the first row of a CSV is its header. A form may "
                "say before its file, in the part `options`, how it is read."
            ),
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
    request: ApiRequest,
    services: Services,
    config: Config,
    dataset_id: DatasetIdQuery = None,
    replace: Replace = False,  # noqa: FBT002 -- a query parameter
    zone: Zone = None,
) -> Response[DatasetAnswer]:
    """The body is streamed to the artifact store, read into typed columns, and profiled.

    Without `dataset_id` an id is made up. The id of a dataset that there is answers 409, unless `replace` makes the
    upload its next version: extractions that were accepted before still read the version of their time. The same bytes
    as those of the present version, to be read in the same way, make no new version.
    """
    if replace and dataset_id is None:
        fault = FieldError("replace", "needs the dataset_id of what is to be replaced")
        raise InvalidRequest("The request's parameters are invalid.", errors=[fault])
    upload = await open_upload(request, config.max_upload_bytes)
    dataset = await services.upload(
        request.user.id,
        dataset_id or f"ds-{secrets.token_hex(8)}",
        upload.media_type,
        upload.chunks,
        overrides=read_options(upload, zone),
        replace=replace,
        announced_bytes=request.content_length or 0,
        while_wanted=partial(while_connected, request),
    )
    left = quota_headers(await services.quotas.use_of(request.user.id), services.quotas.limits)
    return Response(
        DatasetAnswer.of(await _described(services, dataset)), headers={"Location": dataset_path(dataset.id)} | left
    )


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
    return DatasetAnswer.of(await _described(services, dataset))


@patch(
    "/datasets/{dataset_id:str}",
    operation_id="change_dataset",
    tags=["datasets"],
    summary="Change how a dataset is read",
    opt=writes_datasets | takes("upload"),
    response_headers=QUOTA_HEADERS,
    response_description="The dataset with its profile, as it was read anew.",
    responses=documented(
        *PROTECTED, "dataset_not_found", "dataset_changed", "original_missing", "payload_too_large",
        "dataset_too_large", "media_type_unsupported", "request_invalid", "dataset_unreadable", "quota_exceeded",
        "too_many_at_once",
    ),
)  # fmt: skip
async def change_dataset(
    request: ApiRequest, services: Services, dataset_id: DatasetIdPath, data: JSONBody[ReadOptionsBody]
) -> Response[DatasetAnswer]:
    """The uploaded file is read anew with these options over those it had, and becomes the dataset's next version.

    On any error the present version stays as it was. When another request makes a new version meanwhile, this one is
    answered 409.
    """
    dataset = await services.upload.reread(
        request.user.id, dataset_id, data.patch(), while_wanted=partial(while_connected, request)
    )
    left = quota_headers(await services.quotas.use_of(request.user.id), services.quotas.limits)
    return Response(DatasetAnswer.of(await _described(services, dataset)), headers=left)


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
    """Removes all versions, the uploaded file and the profile; extractions that were made from it stay."""
    await services.upload.remove(request.user.id, dataset_id)


async def _described(services: Services, dataset: Dataset) -> DatasetView:
    """The dataset with its profile and what could be related to it."""
    names = [column.name for column in joining(dataset.profile)]
    async with services.store.begin() as work:
        others = await work.datasets.others_columns(dataset.owner, dataset.id, names)
    return dataset_view(dataset, suggested(dataset, others))
