"""The OpenAPI document is valid and true, and its pages render in a browser that may ask nobody else."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
from playwright.async_api import Page, Request, Route, async_playwright

from service.api.application import create_api
from service.api.documentation import ASSETS
from service.api.problems import PROBLEMS
from service.app import api_config, api_services
from tests.api.conftest import World

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip

OPERATIONS = {
    "create_token", "upload_dataset", "list_datasets", "get_dataset", "change_dataset", "delete_dataset",
    "extract_features",
    "get_extraction", "get_extraction_status", "stream_extraction_events", "delete_extraction", "download_features",
    "list_extractions", "list_webhook_deliveries", "get_webhook_secrets", "get_usage", "get_health", "get_liveness",
    "get_readiness",
}  # fmt: skip


@pytest.fixture
async def document(client: httpx.AsyncClient) -> dict[str, Any]:
    """The document as served."""
    return (await client.get("/api/openapi.json")).json()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method and operation of every route."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def references(value: object) -> Iterator[str]:
    """Every `$ref` within."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for child in value.values():
            yield from references(child)
    elif isinstance(value, list):
        for child in value:
            yield from references(child)


async def test_the_document_names_every_operation_once(document: dict[str, Any]) -> None:
    """Operation ids are stable, and each operation has a tag, a summary and a description."""
    assert document["openapi"].startswith("3.1")
    assert {operation["operationId"] for _, _, operation in operations(document)} == OPERATIONS
    tags = {tag["name"] for tag in document["tags"]}
    for _, _, operation in operations(document):
        assert operation["summary"]
        assert operation["description"]
        assert set(operation["tags"]) <= tags


async def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    """No schema that is referred to is missing, and each is a valid JSON Schema."""
    schemas = document["components"]["schemas"]

    assert {reference.removeprefix("#/components/schemas/") for reference in references(document)} <= schemas.keys()
    for schema in schemas.values():
        jsonschema_rs.meta.validate({**schema, "$schema": "https://json-schema.org/draft/2020-12/schema"})


async def test_protected_routes_document_credentials_and_refusals(document: dict[str, Any]) -> None:
    """Both security schemes, 401, 403 and 429 stand on every route below /api/v1, and on no other."""
    schemes = document["components"]["securitySchemes"]
    assert schemes["bearer"]["scheme"] == "bearer"
    assert schemes["apiKey"]["name"] == "X-API-Key"
    for path, _, operation in operations(document):
        protected = path.startswith("/api/v1")
        assert (operation.get("security") == [{"bearer": []}, {"apiKey": []}]) == protected
        assert ({"401", "403", "429", "400"} <= operation["responses"].keys()) == protected


async def test_problems_are_documented_as_problems(document: dict[str, Any]) -> None:
    """Every documented failure below /api/v1 is a problem document whose codes are in its description."""
    for path, _, operation in operations(document):
        for status, response in operation["responses"].items():
            if path.startswith("/api/v1") and int(status) >= 400:
                content = response["content"]["application/problem+json"]
                assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
                codes = re.findall(r"`(\w+)`", response["description"])
                assert codes
                assert {PROBLEMS[code].status for code in codes} == {int(status)}


async def test_uploads_and_downloads_document_their_formats(document: dict[str, Any]) -> None:
    """The formats that are read and written from streams stand in the document."""
    formats = {"text/csv", "application/vnd.apache.parquet", "application/x-ndjson"}
    upload = document["paths"]["/api/v1/datasets"]["post"]["requestBody"]["content"]
    download = document["paths"]["/api/v1/extraction/{extraction_id}/features"]["get"]["responses"]["200"]["content"]

    assert upload.keys() == formats | {"multipart/form-data"}
    assert download.keys() == formats


async def test_waiting_and_sending_again_are_documented(document: dict[str, Any]) -> None:
    """The headers that steer them, those that answer, and the answers beside the result stand in the document."""
    operation = document["paths"]["/api/v1/extract-features"]["post"]
    headers = {parameter["name"]: parameter["schema"] for parameter in operation["parameters"]}
    answers = operation["responses"]

    assert headers.keys() == {"Cache-Control", "Prefer", "Idempotency-Key"}
    assert (headers["Idempotency-Key"]["minLength"], headers["Idempotency-Key"]["maxLength"]) == (1, 255)
    assert answers["202"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/StatusAnswer"}
    assert answers["200"]["headers"].keys() == {"Location", "Preference-Applied", "Idempotency-Replayed"}
    assert "`idempotency_key_reused`" in answers["422"]["description"]


async def test_the_end_of_an_extraction_is_documented(document: dict[str, Any]) -> None:
    """Events are a stream of text; a DELETE cancels, is about to, or deletes."""
    path = document["paths"]["/api/v1/extraction/{extraction_id}"]
    events = document["paths"]["/api/v1/extraction/{extraction_id}/events"]["get"]

    assert events["responses"]["200"]["content"].keys() == {"text/event-stream"}
    assert [parameter["name"] for parameter in events["parameters"]] == ["extraction_id", "Last-Event-ID"]
    assert {"200", "202", "204"} <= path["delete"]["responses"].keys()
    assert "content" not in path["delete"]["responses"]["204"]


async def test_the_body_documents_what_is_enforced(document: dict[str, Any]) -> None:
    """Limits, defaults and the refusal of unknown fields are in the schema."""
    body = document["components"]["schemas"]["ExtractionBody"]
    options = document["components"]["schemas"]["OptionsBody"]

    assert body["additionalProperties"] is False
    assert body["required"] == ["dataset_id", "feature_description"]
    assert (body["properties"]["dataset_id"]["minLength"], body["properties"]["dataset_id"]["maxLength"]) == (1, 100)
    assert body["properties"]["feature_description"]["minLength"] == 5
    assert body["properties"]["quality_threshold"]["default"] == "medium"
    assert (options["properties"]["max_features"]["minimum"], options["properties"]["max_features"]["maximum"]) == (
        1,
        200,
    )
    assert options["additionalProperties"] is False


async def test_answers_keep_to_the_document(client: httpx.AsyncClient, document: dict[str, Any]) -> None:
    """What the routes answer validates against the schemas that they document."""
    uploaded = await client.post(
        "/api/v1/datasets?dataset_id=documented", content=b"a\n1\n", headers={"Content-Type": "text/csv"}
    )
    extracted = await client.post(
        "/api/v1/extract-features", json={"dataset_id": "documented", "feature_description": "click rate"}
    )
    path = extracted.json()["data"]["links"]["self"]
    answers = {
        "DatasetAnswer": uploaded,
        "DatasetListAnswer": await client.get("/api/v1/datasets"),
        "ExtractionAnswer": extracted,
        "ExtractionListAnswer": await client.get("/api/v1/extractions"),
        "StatusAnswer": await client.get(f"{path}/status"),
        "TokenAnswer": await client.post("/api/v1/auth/token"),
        "HealthView": await client.get("/health"),
        "LivenessView": await client.get("/health/live"),
        "ReadinessView": await client.get("/health/ready"),
        "Problem": await client.get("/api/v1/datasets/none"),
    }

    later = await client.post(
        "/api/v1/extract-features",
        json={"dataset_id": "documented", "feature_description": "click rate"},
        headers={"Prefer": "respond-async"},
    )
    assert later.status_code == 202
    for name, answer in (*answers.items(), ("StatusAnswer", later)):
        jsonschema_rs.validate({**document, "$ref": f"#/components/schemas/{name}"}, answer.json())


async def test_without_documentation_there_is_none(world: World) -> None:
    """The schema and its pages can be left out."""
    config = dataclasses.replace(api_config(world.settings), docs_enabled=False)
    transport = httpx.ASGITransport(create_api(api_services(world.runtime, running=True), config))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        for path in ("/api/docs", "/api/redoc", "/api/openapi.json", "/api/assets/swagger-ui.css"):
            assert (await client.get(path)).status_code == 404


async def test_assets_are_served_with_their_types(client: httpx.AsyncClient) -> None:
    """Scripts, styles, icon and licences come with the right type and may be cached."""
    types = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".txt": "text/plain"}
    for path in ASSETS.iterdir():
        answer = await client.get(f"/api/assets/{path.name}")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(types.get(path.suffix, "text/plain"))
        assert "max-age" in answer.headers["cache-control"]
        assert answer.content == path.read_bytes()


def test_vendored_files_carry_licences_and_no_source_maps() -> None:
    """What is shipped of others is licensed beside it, and asks for no file that is not there."""
    for name in ("swagger-ui.LICENSE.txt", "redoc.LICENSE.txt"):
        assert (ASSETS / name).read_text()
    for name in ("swagger-ui-bundle.js", "swagger-ui.css", "redoc.standalone.js"):
        assert not re.search(r"sourceMappingURL=[\w.-]+\.map", (ASSETS / name).read_text())


@pytest.fixture
async def page() -> AsyncGenerator[Page]:
    """A page of a headless browser."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield await browser.new_page()
        await browser.close()


@pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no Chromium at /usr/bin/chromium")
@pytest.mark.parametrize(
    ("path", "rendered"),
    [("/api/docs", ".opblock-summary-path"), ("/api/redoc", "[data-section-id*='operation/extract_features'] h2")],
)
async def test_a_documentation_page_renders_and_asks_nobody_else(
    page: Page, world: World, path: str, rendered: str
) -> None:
    """The operations are shown; every request goes to the service itself, and the page breaks no policy of its own."""
    foreign: list[str] = []
    complaints: list[str] = []

    async def refuse(route: Route, request: Request) -> None:
        if request.url.startswith((world.url, "data:", "blob:")):
            await route.continue_()
        else:
            foreign.append(request.url)
            await route.abort()

    await page.route("**/*", refuse)
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(world.url + path)
    await page.wait_for_selector(rendered, timeout=60_000)
    await page.wait_for_load_state("networkidle")
    text = await page.inner_text("body")

    assert "extract-features" in text or "Extract features" in text
    assert foreign == []
    assert complaints == []
