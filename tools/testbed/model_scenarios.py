"""Scenarios of a stub model provider: the answers that the requests to a model get in turn, good and bad."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Literal

from tools.testbed.model_wire import Message, error_body, words_of

SECRET = "sk-canary-9f3c51d07b2e44aa"
"""A canary: tests look for it where no key may appear."""
CELL = "cell-canary-81b2f6"
"""A canary in a cell of a dataset, which the provider's error text repeats."""
WORDS = f"provider-canary-5d20c4 says: key {SECRET} was refused while reading {CELL}"
"""A provider's error text at its worst: it quotes the key and the prompt."""

Delivery = Literal["whole", "cut", "cut-stream", "reset", "hang", "drip"]
"""How an answer arrives: whole; half of it and then an orderly close, of a length or of chunks that never end;
a TCP reset before it; never; byte by byte."""

DRIP_SECONDS = 0.05
"""Between two bytes."""


@dataclass(frozen=True)
class Turn:
    """The answer to one request."""

    message: Message | None = None
    """None proposes a good plan for the dataset that the request describes."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes | None = None
    """Bytes in place of what the wire format would have."""
    delivery: Delivery = "whole"
    retry_at: float | None = None
    """Seconds from now that a Retry-After names as an HTTP-date."""
    delay_seconds: float = 0.0
    """Before the answer begins."""

    def all_headers(self) -> dict[str, str]:
        """Return the headers, with Retry-After as a date if `retry_at` is set."""
        if self.retry_at is None:
            return dict(self.headers)
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=self.retry_at), usegmt=True)
        return {**self.headers, "retry-after": date}


def plan_for(request: dict[str, Any]) -> Message:
    """Plan the number of rows and the means of the numeric columns for each entity of the request's data block.

    A dataset without an identifier or without numbers is reported as impossible.
    """
    columns = _columns(request)
    entity = next((column["name"] for column in columns if column["type"] == "identifier"), None)
    numbers = [column["name"] for column in columns if column["type"] in {"numeric", "integer"}]
    if entity is None or not numbers:
        return Message(tool="report_impossible", arguments=json.dumps({"reason": "There is nothing to count."}))
    means = [
        feature(f"mean_{index}", {"kind": "aggregate", "column": name, "function": "mean"})
        for index, name in enumerate(numbers[:3])
    ]
    rows = feature("row_count", {"kind": "count"})
    return calling({"grain": "entity", "entity": entity, "features": [rows, *means], "steps": ["One row an entity."]})


def _columns(request: dict[str, Any]) -> list[dict[str, Any]]:
    for words in words_of(request):
        _, opening, rest = words.partition('<untrusted-data format="json">')
        if opening:
            return json.loads(rest.partition("</untrusted-data>")[0])["columns"]
    return []


def feature(name: str, operation: object) -> dict[str, object]:
    """Make one planned feature."""
    return {"name": name, "description": f"The {name} of an entity.", "operation": operation}


def calling(arguments: object, **fields: Any) -> Message:
    """Make a call of `propose_plan`."""
    return Message(arguments=arguments if isinstance(arguments, str) else json.dumps(arguments), **fields)


def failing(status: int, *, code: str | None = None, retry_at: float | None = None, **headers: str) -> Turn:
    """An error status whose body quotes what it should not; header names are written with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Turn(status=status, headers=named, body=error_body(status, WORDS, code), retry_at=retry_at)


def _plan_of(*features: object, **fields: object) -> dict[str, object]:
    return {"grain": "entity", "entity": "user_id", "features": list(features), "steps": [WORDS], **fields}


_COUNT = feature("row_count", {"kind": "count"})
_UNKNOWN_COLUMN = calling(_plan_of(feature("spend", {"kind": "aggregate", "column": WORDS[:60], "function": "sum"})))
_UNDECODABLE = calling(_plan_of(feature(WORDS, {"kind": "exec", "code": WORDS})))
_HUGE = calling(_plan_of(*(feature(f"feature_{i}", {"kind": "count", "unknown": WORDS}) for i in range(9_000))))
"""Two megabytes of faults."""

DEPTH = 100_000
"""Levels of nesting that exhaust a parser which recurses."""
_DEEP = "[" * DEPTH + "]" * DEPTH
_HTML = f"<!doctype html><html><body><h1>502</h1><p>{WORDS}</p></body></html>".encode()
_BOMB = gzip.compress(b" " * 64 * 2**20)
"""64 MiB in as many kilobytes."""
_CUT_CALL = '{"grain": "entity", "entity": "user_id", "features": [{"name": "row_c'

GOOD = Turn()

SCENARIOS: dict[str, Sequence[Turn]] = {
    "good": (GOOD,),
    "faulty-then-good": (Turn(_UNKNOWN_COLUMN), Turn(_UNDECODABLE), GOOD),
    "unknown-column": (Turn(_UNKNOWN_COLUMN),),
    "undecodable": (Turn(_UNDECODABLE),),
    "prose": (Turn(Message(text=WORDS)),),
    "wrong-tool": (Turn(calling({"query": WORDS}, tool="run_sql")),),
    "not-json": (Turn(calling(f"Here is the plan: {WORDS}")),),
    "deep-arguments": (Turn(calling(f'{{"grain": "entity", "features": {_DEEP}}}')),),
    "huge": (Turn(_HUGE),),
    "length": (Turn(calling(_CUT_CALL, finish="length")),),
    "length-then-good": (Turn(calling(_CUT_CALL, finish="length")), GOOD),
    "refusal": (Turn(Message(refusal=WORDS)),),
    "content-filter": (Turn(Message(text="", finish="content_filter")),),
    "status-400": (failing(400),),
    "context-length": (failing(400, code="context_length_exceeded"),),
    "status-401": (failing(401, code="invalid_api_key"),),
    "status-403": (failing(403),),
    "status-404": (failing(404, code="model_not_found"),),
    "status-408": (failing(408),),
    "status-409": (failing(409),),
    "status-429": (failing(429, code="rate_limit_exceeded"),),
    "status-429-short": (failing(429, code="rate_limit_exceeded", retry_after="1"), GOOD),
    "status-429-long": (failing(429, code="rate_limit_exceeded", retry_after="120"),),
    "status-429-date": (failing(429, code="rate_limit_exceeded", retry_at=120.0),),
    "quota": (failing(429, code="insufficient_quota"),),
    "status-500": (failing(500),),
    "status-500-once": (failing(500), GOOD),
    "status-500-twice": (failing(500), failing(500), GOOD),
    "status-503": (failing(503),),
    "status-503-long": (failing(503, retry_after="120"),),
    "html-502": (Turn(status=502, body=_HTML, headers={"content-type": "text/html"}),),
    "hang": (Turn(delivery="hang"),),
    "drip": (Turn(delivery="drip"),),
    "reset": (Turn(delivery="reset"),),
    "reset-once": (Turn(delivery="reset"), GOOD),
    "cut": (Turn(delivery="cut"),),
    "cut-once": (Turn(delivery="cut"), GOOD),
    "cut-stream": (Turn(delivery="cut-stream"),),
    "html": (Turn(body=_HTML, headers={"content-type": "text/html"}),),
    "html-as-json": (Turn(body=_HTML),),
    "empty": (Turn(body=b""),),
    "null": (Turn(body=b"null"),),
    "empty-object": (Turn(body=b"{}"),),
    "deep-body": (Turn(body=_DEEP.encode()),),
    "zip-bomb": (Turn(body=_BOMB, headers={"content-encoding": "gzip"}),),
}
"""By name; the last answer of each is repeated for ever. A model `NAME` or `NAME.anything` behaves as its scenario."""


def scenario_of(model: str) -> Sequence[Turn]:
    """Return the answers of a model by its name; an unknown model is not found."""
    return SCENARIOS.get(model.partition(".")[0], SCENARIOS["status-404"])
