"""Equal requests on unchanged data: answered with the result that there is, as extractions of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

from service.features.events import CacheLooked, ExtractionRepeated, ExtractionStarted
from tests.api.conftest import World, caller, calling, extract


def looked(world: World) -> list[str]:
    """Return the results of looking into the result cache, in order."""
    return [event.result for event in world.recorder.of(CacheLooked) if event.cache == "result"]


async def twice(client: httpx.AsyncClient, **second: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The data of an extraction, and of one after it that is asked for almost the same."""
    answers = [await extract(client), await extract(client, **second)]
    assert [answer.status_code for answer in answers] == [200, 200], [answer.text for answer in answers]
    first, again = (answer.json()["data"] for answer in answers)
    return first, again


async def test_an_equal_request_gets_an_equal_result_of_its_own(serve: Callable[..., World]) -> None:
    """The same features under another id, marked as cached and spending nothing; nothing is planned or queued again."""
    world = serve(plan_cache_seconds=60)
    async with calling(world) as client:
        first, again = await twice(client)
        status = await client.get(again["links"]["status"])
        table = await client.get(again["links"]["features"], params={"format": "parquet"})
        listed = (await client.get("/api/v1/extractions")).json()["data"]["items"]

    assert again["extraction_id"] != first["extraction_id"]
    assert again["trace_id"] != first["trace_id"]
    same = (
        "features",
        "rejected_features",
        "feature_pipeline_steps",
        "quality",
        "row_count",
        "grain",
        "sql",
        "options",
    )
    assert {name: again[name] for name in same} == {name: first[name] for name in same}
    assert again["model"] == {**first["model"], "input_tokens": 0, "output_tokens": 0, "cached": True}
    assert status.json()["data"]["status"] == "completed"
    assert status.json()["data"]["progress"] == 100
    assert table.status_code == 200
    assert {item["extraction_id"] for item in listed} == {first["extraction_id"], again["extraction_id"]}
    assert (world.planner.asked, len(world.recorder.of(ExtractionStarted))) == (1, 1)
    assert looked(world) == ["miss", "hit"]
    assert ExtractionRepeated(again["extraction_id"], "medium") in world.recorder.events


async def test_original_and_repeat_are_deleted_independently(serve: Callable[..., World]) -> None:
    """Deleting the first leaves the second with its table; deleting the second, a third is computed or repeated."""
    world = serve(plan_cache_seconds=60)
    async with calling(world) as client:
        first, again = await twice(client)
        assert (await client.delete(first["links"]["self"])).status_code == 204
        assert (await client.get(again["links"]["features"], params={"format": "parquet"})).status_code == 200
        third = await extract(client)
        assert (await client.delete(again["links"]["self"])).status_code == 204
        table = await client.get(third.json()["data"]["links"]["features"], params={"format": "parquet"})

    assert third.status_code == table.status_code == 200
    assert world.planner.asked == 2, "the file that could be copied was gone with the first"


async def test_different_requests_are_not_repeated(serve: Callable[..., World]) -> None:
    """Another sentence, threshold, option or principal, and `Cache-Control: no-cache`, are planned."""
    world = serve(plan_cache_seconds=60)
    async with calling(world) as client:
        await extract(client)
        await extract(client, feature_description="Something else altogether")
        await extract(client, quality_threshold="low")
        await extract(client, options={"max_features": 7})
        await extract(client, {"Cache-Control": "no-cache"})
        assert world.planner.asked == 5
        await extract(client)
        assert world.planner.asked == 5
    async with caller(world, await world.api_key("bob")) as other:
        csv = {"Content-Type": "text/csv"}
        await other.post("/api/v1/datasets?dataset_id=events", content=b"a\n1\n", headers=csv)
        assert (await extract(other)).status_code == 200
        assert world.planner.asked == 6
    assert looked(world) == ["miss", "miss", "miss", "miss", "bypassed", "hit", "miss"]


async def test_a_dataset_uploaded_again_has_no_results(serve: Callable[..., World]) -> None:
    """A dataset deleted and uploaded again under its id is another one, whatever is in it."""
    world = serve(plan_cache_seconds=60)
    async with calling(world) as client:
        await extract(client)
        await client.delete("/api/v1/datasets/events")
        gone = await extract(client)
        csv = {"Content-Type": "text/csv"}
        await client.post("/api/v1/datasets?dataset_id=events", content=b"a\n1\n", headers=csv)
        again = await extract(client)

    assert gone.status_code == 404
    assert again.status_code == 200
    assert again.json()["data"]["model"]["cached"] is False
    assert world.planner.asked == 2
    assert looked(world) == ["miss", "miss", "miss"]
    files = [key for key in world.artifacts.files if key.startswith("features/")]
    assert len(files) == 2, "what was copied in vain is gone"


async def test_a_repeat_that_cannot_be_stored_is_computed(serve: Callable[..., World]) -> None:
    """Without the database's answer the request is planned and computed as usual."""
    world = serve(plan_cache_seconds=60)
    async with calling(world) as client:
        await extract(client)
        world.store.lost_commits = 1
        again = await extract(client)

    assert again.status_code == 200, again.text
    assert again.json()["data"]["model"]["cached"] is False
    assert world.planner.asked == 2
