"""JSON that no field takes, over HTTP: a fault of the request that is named, never of the service."""

from __future__ import annotations

import json

import httpx
import pytest

HUGE = "1" + "0" * 400
ODD = (HUGE, f"-{HUGE}", "1" + "0" * 5_000, "1e400", "NaN", "Infinity", "18446744073709551616", "[" * 900 + "]" * 900)
BODY = {"dataset_id": "events", "feature_description": "Click rate of each user"}
HERE = "@here@"


@pytest.mark.parametrize("literal", ODD, ids=lambda literal: literal[:12])
@pytest.mark.parametrize(
    "fields",
    [
        *({name: HERE} for name in (*BODY, "quality_threshold", "completion_date", "callback_url", "options")),
        *({"options": {name: HERE}} for name in ("max_features", "entity", "time", "target", "unheard_of")),
        {"unheard_of": HERE},
        {"feature_description": [HERE]},
    ],
    ids=str,
)
async def test_odd_numbers(client: httpx.AsyncClient, dataset: str, fields: dict[str, object], literal: str) -> None:
    """Whatever field it stands in, such a number is refused."""
    body = json.dumps({**BODY, "dataset_id": dataset, **fields}).replace(f'"{HERE}"', literal)
    headers = {"Content-Type": "application/json"}
    answer = await client.post("/api/v1/extract-features", content=body.encode(), headers=headers)
    assert answer.status_code in {400, 422}, answer.text


@pytest.mark.parametrize("literal", [HUGE, f"-{HUGE}", "1" + "0" * 5_000, "1e400", "NaN"], ids=lambda x: x[:9])
async def test_odd_numbers_of_queries(client: httpx.AsyncClient, literal: str) -> None:
    """So is one among the parameters of an address."""
    answer = await client.get("/api/v1/datasets", params={"limit": literal})
    assert answer.status_code in {400, 422}, answer.text
