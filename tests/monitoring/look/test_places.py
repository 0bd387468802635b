"""What the look stands on, without a Grafana: the shipped files, nothing left behind, and sights that can be seen."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.monitoring.boards import FOLDER, boards, panels
from tests.monitoring.look.grafana import PROVISIONING, attached, data_source, provisioned
from tests.monitoring.look.scenes import HEALTHY, SCENES, Sight

BOARDS = {board["uid"]: board for board in boards()}
SOURCE = data_source("http://127.0.0.1:1", "3s")
SIGHTS = sorted({*HEALTHY, *(sight for scene in SCENES for sight in scene.sights)}, key=str)


class _Api(ThreadingHTTPServer):
    """Notes what it is asked for, and refuses one path."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Asked)
        self.asked: list[tuple[str, str, str | None, Any]] = []
        self.refused = "none"


class _Asked(BaseHTTPRequestHandler):
    server: _Api

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"] or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        self.server.asked.append((self.command, self.path, self.headers["Authorization"], body))
        uid = (body or {}).get("dashboard", {}).get("uid", "")
        self.send_response(500 if uid.endswith(self.server.refused) else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_DELETE = do_POST  # noqa: N815 -- the names are the base class's

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- likewise
        """Say nothing."""


@pytest.fixture
def api() -> Iterator[_Api]:
    """The API of a Grafana that keeps nothing."""
    server = _Api()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def _address(server: _Api) -> str:
    return f"http://admin:secret@127.0.0.1:{server.server_address[1]}/"


def test_a_grafana_is_started_with_the_shipped_files(tmp_path: Path) -> None:
    """Data sources and boards are the shipped ones; only the address and interval of Prometheus and a path differ."""
    folder = provisioned(tmp_path, SOURCE)
    sources = yaml.safe_load((folder / "datasources/datasources.yaml").read_text())
    shipped = yaml.safe_load((PROVISIONING / "datasources/datasources.yaml").read_text())
    assert sources["datasources"][0]["url"] == "http://127.0.0.1:1"
    assert sources["datasources"][0]["jsonData"] == shipped["datasources"][0]["jsonData"] | {"timeInterval": "3s"}
    assert {**sources, "datasources": sources["datasources"][1:]} == {
        **shipped,
        "datasources": shipped["datasources"][1:],
    }
    [provider] = yaml.safe_load((folder / "dashboards/dashboards.yaml").read_text())["providers"]
    assert provider["options"]["path"] == str(FOLDER)


def test_nothing_is_left_in_a_grafana_that_ran_before(api: _Api) -> None:
    """It gets a data source and a copy of each board under names of their own; all are deleted afterwards."""
    with attached(_address(api), SOURCE) as found:
        made = list(api.asked)
        assert found.board("feature-agent-overview", "5m").startswith(
            f"{found.address}/d/{found.prefix}feature-agent-overview?"
        )
    source, *copies = (body for *_, body in made)
    uids = [copy["dashboard"]["uid"] for copy in copies]
    assert [uid.removeprefix(found.prefix) for uid in uids] == list(BOARDS)
    assert found.prefix
    assert "$$" not in json.dumps(source)
    assert found.data_source == source["uid"]
    deleted = [path for method, path, *_ in api.asked if method == "DELETE"]
    wanted = [f"/api/datasources/uid/{source['uid']}", *(f"/api/dashboards/uid/{uid}" for uid in uids)]
    assert sorted(deleted) == sorted(wanted)
    assert {header for _, _, header, _ in api.asked} == {found.headers["Authorization"]}
    assert "secret" not in found.address


def test_what_was_made_before_a_refusal_is_deleted(api: _Api) -> None:
    """When a board is refused, the data source and the boards before it are taken back."""
    api.refused = list(BOARDS)[2]
    with pytest.raises(OSError, match="500"), attached(_address(api), SOURCE):
        pass
    assert len([path for method, path, *_ in api.asked if method == "DELETE"]) == 3


@pytest.mark.parametrize("sight", SIGHTS, ids=str)
def test_a_sight_can_be(sight: Sight) -> None:
    """Each panel that is waited for is on its board, and shows the word, or some state, in that colour."""
    [panel] = [one for one in panels(BOARDS[sight.board]) if one["title"] == sight.panel]
    assert panel["type"] == ("stat" if sight.word else "state-timeline")
    results = [
        result
        for mapping in panel["fieldConfig"]["defaults"]["mappings"]
        for result in (mapping["options"].values() if mapping["type"] == "value" else [mapping["options"]["result"]])
    ]
    assert sight.colour in {one["color"] for one in results if sight.word in {"", one.get("text")}}


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.fault)
def test_a_scene_is_a_fault_of_the_game_day(scene: Any) -> None:
    """What is looked at during a fault is a fault that the game day plays."""
    assert scene.inflicted().name == scene.fault
