"""Payloads through the front door: in the headers and cells of uploads, in sentences, over real HTTP."""

from __future__ import annotations

import csv
import io
import json
import os
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlglot
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families
from sqlglot import exp

from service.resources.overrides import Overrides
from service.settings import Settings
from service.telemetry.catalog import LOG_ACCESS, LOG_CORRELATION, LOG_IDENTITY
from tests.red_team.payloads import PAYLOADS, SECRET, VARIABLE, Room, carried, payload, payload_names
from tests.support import LiveService
from tools.testbed.api_client import Answer, Client

pytestmark = [pytest.mark.proof, pytest.mark.xdist_group("red-team")]

ROWS = 90
EXPECTED = {200, 201, 202, 400, 404, 413, 422, 503}
"""Done, or a problem that the client is told of."""
JSON_TYPES = ("application/json", "application/problem+json")


LOG_KEYS = {*LOG_IDENTITY, *LOG_CORRELATION, *LOG_ACCESS, "quality_threshold", "failure_code", "attempt"}
ADDRESSES = {"url.path", "url.query", "url.full", "http.target", "http.url"}
"""Attributes that hold the address a caller asked for."""


class Scene:
    """A live service, and all that it says to anybody."""

    def __init__(self, service: LiveService, room: Room, logs: io.StringIO, spans: InMemorySpanExporter) -> None:
        self.client: Client = service.client
        self.room = room
        self.payloads = [payload(name, room) for name in PAYLOADS]
        self._metrics = service.runtime.metrics_address
        self._logs = logs
        self._spans = spans
        self._seen = 0

    def text(self, name: str) -> str:
        """A payload."""
        return payload(name, self.room)

    def check(self) -> None:
        """What was logged and traced since the last check: lines of the catalog's keys, and no payload in either."""
        # A line ends with a line feed and nothing else.
        written = [line for line in self._logs.getvalue().split("\n")[self._seen :] if line]
        self._seen += len(written)
        assert written
        for line in map(json.loads, written):
            self._check_line(line)
        for span in self._spans.get_finished_spans():
            self._check_span(span)
        self._spans.clear()

    def _check_line(self, line: dict[str, Any]) -> None:
        assert set(line) <= LOG_KEYS, set(line) - LOG_KEYS
        assert line["level"] not in {"error", "critical"}, line
        # A path, and a request id of safe characters, are what the caller made them, in fields of their own.
        content = {key: value for key, value in line.items() if key not in {"path", "request_id"}}
        assert not carried(json.dumps(content, ensure_ascii=False), self.payloads), line
        assert SECRET not in json.dumps(line)

    def _check_span(self, span: ReadableSpan) -> None:
        assert not carried(span.name, self.payloads), span.name
        for key, value in (span.attributes or {}).items():
            if key not in ADDRESSES:
                assert not carried(f"{key} {value}", self.payloads), (span.name, key)
        assert not carried(repr([event.attributes for event in span.events]), self.payloads)
        assert not carried(str(span.status.description), self.payloads)
        assert SECRET not in span.to_json()

    def metrics(self) -> str:
        """The metrics page."""
        with urllib.request.urlopen(str(self._metrics), timeout=10) as answer:  # noqa: S310 - our own server
            return answer.read().decode()


@pytest.fixture(scope="module")
def scene(make_settings: Callable[..., Settings], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A live service whose log, metrics and spans can be read; afterwards the files outside are untouched."""
    room = Room(tmp_path_factory.mktemp("red-team"))
    logs, spans = io.StringIO(), InMemorySpanExporter()
    os.environ[VARIABLE] = SECRET
    try:
        with LiveService(make_settings(), Overrides(log_stream=logs, span_exporters=[spans])) as service:
            scene = Scene(service, room, logs, spans)
            other = "a,b\n" + "".join(f"{SECRET},{row}\n" for row in range(20))
            assert scene.client.upload("other", other.encode()).status == 201
            yield scene
            assert room.untouched()
    finally:
        del os.environ[VARIABLE]


def sound(answer: Answer) -> Any:
    """The answer's JSON: an expected status, of the right type, without a secret or a stack trace."""
    assert answer.status in EXPECTED, answer.body
    assert answer.headers["content-type"].split(";")[0] in JSON_TYPES
    assert SECRET.encode() not in answer.body
    assert b"Traceback" not in answer.body
    return answer.json()


def upload(scene: Scene, dataset_id: str, text: str) -> Answer:
    """A CSV file whose header and cells hold the payload."""
    written = io.StringIO()
    rows = csv.writer(written)
    rows.writerow([text, "user", "at", "amount", "word"])
    for row in range(ROWS):
        rows.writerow(
            [text if row % 3 else f"other {row % 2}", f"u{row % 9}", f"2026-01-{row % 28 + 1:02d}", row, text]
        )
    return scene.client.upload(dataset_id, written.getvalue().encode(errors="replace"))


def one_select(sql: str) -> None:
    """The statement that ran is one SELECT over the dataset."""
    [statement] = sqlglot.parse(sql, read="duckdb")
    assert isinstance(statement, exp.Select)
    own = {cte.alias for cte in statement.find_all(exp.CTE)} | {"dataset"}
    assert all(isinstance(found.this, exp.Identifier) and found.name in own for found in statement.find_all(exp.Table))


@pytest.mark.parametrize("name", payload_names())
def test_payloads_in_an_upload_and_its_extractions(scene: Scene, name: str) -> None:
    """A header, cells, a sentence and options that are the payload: features of that dataset, or a problem."""
    text, client = scene.text(name), scene.client
    uploaded = upload(scene, name, text)
    profile = sound(uploaded)
    if uploaded.status != 201:
        assert uploaded.status == 422
        return
    column = profile["data"]["columns"][0]["name"]
    sentences = [(text + " of each user, counts and shares", {}), (f"counts per {column}", {"entity": column[:256]})]
    for sentence, options in [
        *sentences,
        ("features", {"entity": text[:256], "time": text[:256], "target": text[:256]}),
    ]:
        answer = client.extract(name, sentence, options=options)
        found = sound(answer)
        if answer.status != 200:
            assert found["error_code"] in {
                "request_impossible",
                "request_invalid",
                "quality_too_low",
                "model_output_invalid",
                "request_malformed",
            }, found
            continue
        data = found["data"]
        assert all(feature["name"].isascii() and feature["name"].isidentifier() for feature in data["features"])
        for form, read in (("csv", read_csv), ("ndjson", read_ndjson)):
            table = client.get(f"/api/v1/extraction/{data['extraction_id']}/features?format={form}")
            assert table.status == 200
            assert SECRET.encode() not in table.body
            assert read(table.body) == data["row_count"]
        whole = client.get(f"/api/v1/extraction/{data['extraction_id']}")
        if sql := sound(whole)["data"].get("sql"):
            one_select(sql)
    scene.check()


def read_csv(body: bytes) -> int:
    """Rows of a CSV file."""
    return len(list(csv.DictReader(io.StringIO(body.decode(), newline=""))))


def read_ndjson(body: bytes) -> int:
    """Rows of a file of JSON objects."""
    return len([json.loads(line) for line in body.decode().split("\n") if line])


@pytest.mark.parametrize("name", payload_names())
def test_payloads_in_addresses_and_headers(scene: Scene, name: str) -> None:
    """Ids, cursors, formats and headers that are the payload are refused or not found; none comes back as a header."""
    text, client = scene.text(name)[:1_000], scene.client
    quoted = urllib.parse.quote(text.encode(errors="replace"), safe="")
    for method, path in (
        ("GET", f"/api/v1/datasets/{quoted}"),
        ("GET", f"/api/v1/extraction/{quoted}"),
        ("GET", f"/api/v1/extraction/{quoted}/features?format={quoted}"),
        ("GET", f"/api/v1/extractions?cursor={quoted}&status={quoted}"),
        ("GET", f"/api/v1/datasets?cursor={quoted}&limit={quoted}"),
        ("DELETE", f"/api/v1/datasets/{quoted}"),
    ):
        sound(client.call(method, path))
    plain = text.encode("ascii", "ignore").decode().replace("\r", "").replace("\n", "").replace("\0", "")
    printable = "".join(character for character in plain if character.isprintable())
    answer = client.call("GET", "/api/v1/datasets", X_Request_ID=printable, traceparent=printable)
    sound(answer)
    assert len(answer.headers["x-request-id"]) <= 64
    scene.check()


def test_surrogates_in_a_request_are_malformed(scene: Scene) -> None:
    """A sentence that is no Unicode text is refused as such."""
    body = b'{"dataset_id": "other", "feature_description": "counts \\ud800 of a"}'
    answer = scene.client.call("POST", "/api/v1/extract-features", body=body, Content_Type="application/json")
    assert sound(answer)["status"] in {400, 422}


def test_formulas_are_exported_as_they_are(scene: Scene) -> None:
    """A cell that a spreadsheet would run stays the cell it was: quoted as CSV asks for, neither changed nor split."""
    formula = scene.text("sheet-link")
    assert upload(scene, "formulas", formula).status == 201
    answer = scene.client.extract(
        "formulas", "rows and mean amount", options={"entity": formula}, quality_threshold="low"
    )
    assert answer.status == 200, answer.body
    table = scene.client.get(f"/api/v1/extraction/{answer.data['extraction_id']}/features?format=csv")
    rows = list(csv.DictReader(io.StringIO(table.body.decode(), newline="")))
    assert {row[formula] for row in rows} == {formula, "other 0", "other 1"}


def test_no_payload_is_a_label(scene: Scene) -> None:
    """Whatever is uploaded, asked and looked up by such a name, no metric label holds it."""
    text = scene.text("sheet-link")
    upload(scene, "labels", text)
    scene.client.extract("labels", text)
    scene.client.get(f"/api/v1/datasets/{urllib.parse.quote(text, safe='')}")
    families = list(text_string_to_metric_families(scene.metrics()))
    assert families
    for family in families:
        for sample in family.samples:
            assert not carried(repr(sample.labels), scene.payloads)
