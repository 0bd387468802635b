"""`/api/v1/datasets` with versions: `?replace=true`, options of an upload, `PATCH`, and what is wrong with each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from service.features.model import ColumnOverride, ReadOptions
from tests.api.conftest import World, caller, calling, extract, until
from tests.api.test_shares import head, opened, until_status
from tests.doubles import Gate
from tests.support import LiveService

PATH = "/api/v1/datasets/events"
CSV = {"Content-Type": "text/csv"}
TABLE = b"id,price,seen\n1,1.5,2026-03-29 12:00\n2,n/a,2026-03-30 12:00\n3,x,2026-03-31 12:00\n"


async def replace(client: httpx.AsyncClient, content: bytes = b"b\n2\n", **query: str) -> httpx.Response:
    """Upload under the id of the dataset."""
    params = {"dataset_id": "events", "replace": "true", **query}
    return await client.post("/api/v1/datasets", params=params, content=content, headers=CSV)


async def kept(client: httpx.AsyncClient) -> Any:
    """The dataset as it is."""
    return (await client.get(PATH)).json()["data"]


def faults(answer: httpx.Response) -> list[str]:
    """The members that a 422 names."""
    assert (answer.status_code, answer.json()["error_code"]) == (422, "request_invalid"), answer.text
    return sorted(fault["field"] for fault in answer.json()["errors"])


def problem(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal."""
    return answer.status_code, answer.json()["error_code"]


async def test_an_upload_replaces_when_asked(serve: Callable[..., World]) -> None:
    """201 with the next version under the same path; the list and the dataset show it; a first one may say so too."""
    world = serve()
    async with calling(world) as client:
        first = await kept(client)
        world.clock.advance(minutes=1)
        answer = await replace(client)
        listed = (await client.get("/api/v1/datasets")).json()["data"]["items"]
        other = await replace(client, dataset_id="other")
        again = await replace(client)
        now = await kept(client)

    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == PATH
    data = answer.json()["data"]
    assert (first["version"], data["version"], data["size_bytes"]) == (1, 2, 4)
    assert (data["created_at"], first["updated_at"]) == (first["created_at"], first["created_at"])
    assert data["updated_at"] == "2026-11-23T12:01:00Z"
    assert [(item["dataset_id"], item["version"]) for item in listed] == [("events", 2)]
    assert other.json()["data"]["version"] == 1
    assert (again.json()["data"], now) == (data, data), "the same bytes make no version"


async def test_replacing_needs_an_id(client: httpx.AsyncClient) -> None:
    """Without an id there is nothing to replace: 422, and the body is not taken."""
    answer = await client.post("/api/v1/datasets?replace=true", content=b"a\n1\n", headers=CSV)

    assert faults(answer) == ["replace"]


@pytest.mark.parametrize(
    "query", ["replace=maybe", "replace=", "replace=true&replace=true", "zone=", f"zone={'x' * 65}"]
)
async def test_bad_parameters_of_an_upload_are_named(client: httpx.AsyncClient, query: str) -> None:
    """A 422 that names the parameter."""
    answer = await client.post(f"/api/v1/datasets?dataset_id=a&{query}", content=b"a\n1\n", headers=CSV)

    assert faults(answer) == [query.partition("=")[0]]


async def test_a_failed_replacement_leaves_the_dataset(serve: Callable[..., World]) -> None:
    """Unreadable, too large, of a wrong type, over the quota: each says so, and the version of before stands."""
    world = serve(max_stored_bytes=100)
    async with calling(world) as client:
        before, files = await kept(client), dict(world.artifacts.files)
        answers = [
            await replace(client, b"broken"),
            await replace(client, b"x" * 300_000),
            await client.post("/api/v1/datasets?dataset_id=events&replace=true", content=b"a"),
            await replace(client, b"x" * 60),
        ]
        after = await kept(client)

    assert [problem(answer) for answer in answers] == [
        (422, "dataset_unreadable"), (413, "payload_too_large"), (415, "media_type_unsupported"),
        (507, "quota_exceeded"),
    ]  # fmt: skip
    assert (after, world.artifacts.files) == (before, files)


async def test_a_patch_reads_the_original_anew(serve: Callable[..., World]) -> None:
    """With all overrides together, as a merge patch; the answer has the next version and what was said so far."""
    world = serve()
    async with calling(world) as client:
        first = await client.patch(PATH, json={"columns": {"amount": {"type": "text", "null_words": ["n/a"]}}})
        second = await client.patch(
            PATH,
            content=json.dumps(
                {"zone": "Asia/Tokyo", "columns": {"amount": {"type": None}, "user_id": {"role": "ignored"}}}
            ),
            headers={"Content-Type": "application/merge-patch+json"},
        )
        same = await client.patch(PATH, json={"zone": "Asia/Tokyo"})
        third = await client.patch(PATH, json={"columns": None, "zone": None})
        now = await kept(client)

    assert [answer.status_code for answer in (first, second, same, third)] == [200] * 4, second.text
    assert [answer.json()["data"]["version"] for answer in (first, second, same, third)] == [2, 3, 3, 4]
    nothing = {"type": None, "unit": None, "zone": None, "null_words": None, "role": None}
    assert first.json()["data"]["overrides"] == {
        "columns": {"amount": {**nothing, "type": "text", "null_words": ["n/a"]}}, "zone": None
    }  # fmt: skip
    assert second.json()["data"]["overrides"] == {
        "columns": {"amount": {**nothing, "null_words": ["n/a"]}, "user_id": {**nothing, "role": "ignored"}},
        "zone": "Asia/Tokyo",
    }
    assert now["overrides"] == {"columns": {}, "zone": None}
    assert {content for _, content in world.engine.ingested} == {b"a\n1\n"}, "always the original"
    assert world.engine.overrides[2] == ReadOptions(
        columns={"amount": ColumnOverride(null_words=("n/a",)), "user_id": ColumnOverride(role="ignored")},
        zone="Asia/Tokyo",
    )
    assert "quota-datasets-remaining" in third.headers


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"columns": {"price": {"type": "money"}}}, ["columns.price.type"]),
        ({"columns": {"price": {"type": 5, "unit": "weeks"}}}, ["columns.price.type", "columns.price.unit"]),
        ({"columns": {"price": {"tpye": "text"}}}, ["columns.price.tpye"]),
        ({"columns": {"price": "text", "b": {"role": "x"}}}, ["columns.b.role", "columns.price"]),
        ({"columns": {"price": {"null_words": "n/a"}}}, ["columns.price.null_words"]),
        ({"columns": {"price": {"null_words": ["x" * 101]}}}, ["columns.price.null_words"]),
        ({"columns": {"price": {"null_words": ["x"] * 101}}}, ["columns.price.null_words"]),
        ({"columns": {"price": {"zone": ""}}}, ["columns.price.zone"]),
        ({"columns": {"": {"type": "text"}}}, ["columns"]),
        ({"columns": {"x" * 257: {}}}, ["columns"]),
        ({"columns": ["price"]}, ["columns"]),
        ({"columns": {f"c{number}": {} for number in range(10_001)}}, ["columns"]),
        ({"zone": 1, "nothing": 2}, ["nothing", "zone"]),
        ([], ["body"]),
    ],
)
async def test_faults_of_a_patch_are_named(
    client: httpx.AsyncClient, dataset: str, body: object, fields: list[str]
) -> None:
    """Each member at fault by its path; nothing is read."""
    answer = await client.patch(f"/api/v1/datasets/{dataset}", json=body)

    assert faults(answer) == fields
    assert (await kept(client))["version"] == 1


async def test_what_words_there_are_is_said(client: httpx.AsyncClient, dataset: str) -> None:
    """A wrong word of a closed set is answered with the set."""
    answer = await client.patch(f"/api/v1/datasets/{dataset}", json={"columns": {"a": {"role": "key"}}})

    assert answer.json()["errors"] == [
        {"field": "columns.a.role", "message": "must be one of: feature, identifier, ignored"}
    ]


async def test_other_bodies_of_a_patch_are_refused(client: httpx.AsyncClient, dataset: str) -> None:
    """Not JSON, not said to be, empty, too large."""
    path, text = f"/api/v1/datasets/{dataset}", {"Content-Type": "application/json"}
    answers = [
        await client.patch(path, content=b"{", headers=text),
        await client.patch(path, content=b"", headers=text),
        await client.patch(path, content=b"zone=UTC", headers=CSV),
        await client.patch(path, content=b" " * 2**21, headers=text),
        await client.patch(path, content=b"{}", headers=text, params={"zone": "UTC"}),
    ]

    assert [answer.status_code for answer in answers] == [400, 400, 415, 413, 422]


async def test_a_patch_that_cannot_be_read_leaves_the_dataset(serve: Callable[..., World]) -> None:
    """What the engine says of the place at fault is answered, and the version of before stands."""
    world = serve()
    async with calling(world) as client:
        before = await kept(client)
        (original,) = [key for key in world.artifacts.files if key.startswith("originals/")]
        world.artifacts.files[original] = b"broken"
        files = dict(world.artifacts.files)
        answer = await client.patch(PATH, json={"zone": "UTC"})
        after = await kept(client)

    assert problem(answer) == (422, "dataset_unreadable")
    assert answer.json()["errors"] == [{"field": "row 2, column amount", "message": "is not a number"}]
    assert (after, world.artifacts.files) == (before, files)


async def test_a_dataset_without_its_original_says_so(serve: Callable[..., World]) -> None:
    """What an older release uploaded is a 409 that says to upload again, after which a patch works."""
    world = serve()
    async with calling(world) as client:
        await world.sql("UPDATE datasets SET original_key = NULL")
        answer = await client.patch(PATH, json={"zone": "UTC"})
        uploaded = await replace(client)
        then = await client.patch(PATH, json={"zone": "UTC"})

    assert problem(answer) == (409, "original_missing")
    assert "upload it again with ?replace=true" in answer.json()["detail"]
    assert (uploaded.json()["data"]["version"], then.json()["data"]["version"]) == (2, 3)


async def test_a_patch_that_is_overtaken_is_a_conflict(serve: Callable[..., World]) -> None:
    """409, and the version that was made meanwhile stands."""
    world = serve()
    async with calling(world) as client:
        gate = world.engine.gate = Gate()
        patching = asyncio.create_task(client.patch(PATH, json={"zone": "UTC"}))
        await until(lambda: len(world.engine.ingested) == 2)
        world.engine.gate = None
        await replace(client)
        gate.set()
        answer = await patching
        now = await kept(client)

    assert problem(answer) == (409, "dataset_changed")
    assert (now["version"], now["overrides"]["zone"]) == (2, None)


async def test_a_patch_ends_when_its_client_goes(serve: Callable[..., World]) -> None:
    """The engine stops, and the dataset is as it was."""
    world = serve()
    key = await world.api_key()
    async with calling(world) as client:
        files = dict(world.artifacts.files)
        world.engine.gate = Gate()
        request = head("PATCH", PATH, key, "Content-Type: application/json", "Content-Length: 14") + '{"zone":"UTC"}'
        async with opened(world, request):
            await until(lambda: len(world.engine.ingested) == 2)
        await until(lambda: world.engine.cancelled == 1)
        now = await kept(client)

    assert (now["version"], world.artifacts.files) == (1, files)


async def test_a_patch_takes_a_place_of_the_uploads(serve: Callable[..., World]) -> None:
    """One more than the principal's share is 429, a patch as well as an upload; then there is a place again."""
    world = serve(max_uploads_per_principal=1)
    async with calling(world) as client:
        gate = world.engine.gate = Gate()
        patching = asyncio.create_task(client.patch(PATH, json={"zone": "UTC"}))
        await until(lambda: len(world.engine.ingested) == 2)
        refused = [await client.patch(PATH, json={"zone": "Asia/Tokyo"}), await replace(client)]
        gate.set()
        assert (await patching).status_code == 200
        await until_status(lambda: client.patch(PATH, json={"zone": "Asia/Tokyo"}), 200)

    assert [problem(answer) for answer in refused] == [(429, "too_many_at_once")] * 2


async def test_a_patch_over_the_quota_is_refused(serve: Callable[..., World]) -> None:
    """507, before it is read when nothing is left and after it when the new table is too much; the dataset stands."""
    world = serve(max_stored_bytes=21)
    async with calling(world) as client:
        answers = [await client.patch(PATH, json={"zone": f"Zone/{number}"}) for number in range(5)]
        now = await kept(client)

    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 507], [a.text for a in answers]
    assert problem(answers[4]) == (507, "quota_exceeded")
    assert now["version"] == 5
    assert len(world.artifacts.files) == 6


# Options of an upload


async def test_a_form_says_how_its_file_is_read(serve: Callable[..., World]) -> None:
    """The part `options` before the file, and `?zone=` for any upload; a patch is merged into them."""
    world = serve()
    options = json.dumps({"columns": {"amount": {"type": "text"}}})
    async with caller(world, await world.api_key()) as client:
        path = "/api/v1/datasets?dataset_id=events&zone=Europe/Berlin"
        form = await client.post(path, data={"options": options}, files={"file": ("a.csv", b"a\n1\n", "text/csv")})
        patched = await client.patch(PATH, json={"zone": None})
        raw = await client.post("/api/v1/datasets?zone=Asia/Tokyo", content=b"a\n1\n", headers=CSV)

    assert form.status_code == 201, form.text
    assert world.engine.overrides == [
        ReadOptions(columns={"amount": ColumnOverride(type="text")}, zone="Europe/Berlin"),
        ReadOptions(columns={"amount": ColumnOverride(type="text")}),
        ReadOptions(zone="Asia/Tokyo"),
    ]
    assert patched.json()["data"]["version"] == 2
    assert raw.json()["data"]["overrides"] == {"columns": {}, "zone": "Asia/Tokyo"}


def form(*parts: tuple[str, str]) -> dict[str, Any]:
    """A form of these parts in their order."""
    named = {"file": "a.csv"}
    lines = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"'
        + (f'; filename="{named[name]}"' if name in named else "")
        + f"\r\n\r\n{content}\r\n"
        for name, content in parts
    ]
    return {
        "content": "".join([*lines, "--b--\r\n"]).encode(),
        "headers": {"Content-Type": "multipart/form-data; boundary=b"},
    }


async def test_bad_options_of_a_form_are_refused(client: httpx.AsyncClient, world: World) -> None:
    """Not JSON, unknown members, too much, too late, a zone twice: nothing is kept."""
    before = len(world.artifacts.files)
    file, zone = ("file", "a\n1\n"), ("options", '{"zone": "UTC"}')
    answers = [
        await client.post("/api/v1/datasets?dataset_id=bad&zone=UTC", **form(*parts))
        for parts in [
            [("options", "{"), file], [("options", '{"columns": {"a": {"type": "b"}}}'), file],
            [("options", "[]"), file], [("options", " " * (2**20 + 1)), file], [file, zone], [zone, file],
        ]
    ]  # fmt: skip

    assert [answer.status_code for answer in answers] == [400, 422, 422, 413, 422, 422], [a.text for a in answers]
    assert [faults(answers[place]) for place in (1, 2, 4, 5)] == [["columns.a.type"], ["body"], ["options"], ["zone"]]
    assert (await client.get("/api/v1/datasets/bad")).status_code == 404
    assert len(world.artifacts.files) == before


async def test_the_document_describes_options_and_patch(client: httpx.AsyncClient) -> None:
    """The form's part and the body of `PATCH` are one schema."""
    document = (await client.get("/api/openapi.json")).json()
    paths = document["paths"]
    upload = paths["/api/v1/datasets"]["post"]
    part = upload["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]["options"]
    change = paths["/api/v1/datasets/{dataset_id}"]["patch"]

    assert part == {"$ref": "#/components/schemas/ReadOptionsBody"}
    assert change["requestBody"]["content"]["application/json"]["schema"] == part
    assert {"zone", "columns"} == document["components"]["schemas"]["ReadOptionsBody"]["properties"].keys()
    assert {"replace", "zone", "dataset_id"} <= {parameter["name"] for parameter in upload["parameters"]}
    assert {"404", "409", "422", "507", "429"} <= change["responses"].keys()


# Extractions


async def test_an_extraction_names_the_version_it_read(serve: Callable[..., World]) -> None:
    """The one that was current when it was accepted, also when it is replaced while it waits or runs."""
    world = serve()
    async with calling(world) as client:
        gate = world.planner.gate = Gate()
        accepted = await extract(client, {"Prefer": "respond-async"})
        await replace(client)
        path = f"/api/v1/extraction/{accepted.json()['data']['extraction_id']}"
        waiting = (await client.get(path)).json()["data"]
        gate.set()
        await until_status(lambda: client.get(f"{path}/features"), 200)
        done = (await client.get(path)).json()["data"]
        then = (await extract(client)).json()["data"]

    assert (waiting["dataset_version"], done["dataset_version"], then["dataset_version"]) == (1, 1, 2)


async def test_no_result_of_an_older_version_is_repeated(serve: Callable[..., World]) -> None:
    """A repeated request is answered from memory while the data are the same, and computed for a new version."""
    world = serve(plan_cache_seconds=60)
    async with calling(world) as client:
        first, second = [(await extract(client)).json()["data"] for _ in range(2)]
        await replace(client)
        third = (await extract(client)).json()["data"]
        await client.patch(PATH, json={"zone": "UTC"})
        fourth = (await extract(client)).json()["data"]

    assert [one["dataset_version"] for one in (first, second, third, fourth)] == [1, 1, 2, 3]
    assert [one["model"]["cached"] for one in (first, second)] == [False, True]
    rows = {row.id: row for row in await world.extractions()}
    assert [rows[one["extraction_id"]].attempt for one in (first, second, third, fourth)] == [1, 0, 1, 1]


# With the real engine


@pytest.fixture
async def real(live: LiveService) -> Any:
    """A caller of a service as production composes it, with a dataset."""
    headers = {"Authorization": f"Bearer {live.key}"}
    async with httpx.AsyncClient(base_url=live.url, headers=headers, timeout=60, trust_env=False) as client:
        answer = await replace(client, TABLE)
        assert answer.status_code == 201, answer.text
        yield client
        await client.delete(PATH)


def types(data: Any) -> dict[str, str]:
    """The columns' types."""
    return {column["name"]: column["logical_type"] for column in data["columns"]}


async def test_the_engine_reads_as_it_is_told(real: httpx.AsyncClient) -> None:
    """Types, words for nothing and zones of a real file, one patch after the other, and back to what was found out."""
    found = await kept(real)
    words = await real.patch(PATH, json={"columns": {"price": {"type": "numeric", "null_words": ["n/a", "x"]}}})
    zone = await real.patch(PATH, json={"zone": "Europe/Berlin"})
    back = await real.patch(PATH, json={"columns": None, "zone": None})

    assert words.status_code == zone.status_code == back.status_code == 200, (words.text, zone.text, back.text)
    assert (types(found)["price"], types(words.json()["data"])["price"]) == ("text", "numeric")
    seen = [next(c for c in one["columns"] if c["name"] == "seen")["minimum"] for one in (found, zone.json()["data"])]
    assert [moment[:16] for moment in seen] == ["2026-03-29T12:00", "2026-03-29T10:00"]
    assert back.json()["data"]["fingerprint"] == found["fingerprint"]


async def test_the_engine_names_what_does_not_fit(real: httpx.AsyncClient) -> None:
    """An unknown column, an unknown zone, values that do not convert: 422 with the member, and nothing is lost."""
    before = await kept(real)
    unknown = await real.patch(PATH, json={"columns": {"prcie": {"type": "numeric"}}})
    nowhere = await real.patch(PATH, json={"zone": "Mars/Olympus"})
    letters = await real.patch(PATH, json={"columns": {"price": {"type": "numeric", "null_words": ["n/a"]}}})
    uploaded = await real.post("/api/v1/datasets?zone=Mars/Olympus", content=TABLE, headers=CSV)

    assert faults(unknown) == ["columns.prcie"]
    assert faults(nowhere) == faults(uploaded) == ["zone"]
    assert letters.status_code == 422, letters.text
    assert "price" in letters.text
    assert await kept(real) == before
