"""A Grafana with the shipped boards over a given Prometheus: its own process, or one that runs already.

`GRAFANA_BIN` names the program (`grafana` of a release; `GRAFANA_HOME` its folder, when that is not two above it). It
is started with the shipped provisioning files, in which only addresses and the scrape interval differ. `GRAFANA_URL` is
the address of one that runs on this machine, with the credentials of an administrator
(`http://admin:password@127.0.0.1:3000`): it gets a data source and copies of the boards, which are deleted afterwards.
"""

from __future__ import annotations

import base64
import json
import os
import re
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit
from uuid import uuid4

import yaml
from msgspec import Struct

from tests.monitoring.boards import FOLDER, ROOT, boards
from tests.monitoring.stand import answers, free_port, process, until

PROVISIONING = ROOT / "observability/grafana/provisioning"
PROGRAM, ADDRESS = os.environ.get("GRAFANA_BIN"), os.environ.get("GRAFANA_URL")
"""Either may be set and empty."""
MISSING = None if PROGRAM or ADDRESS else "no Grafana: neither GRAFANA_BIN nor GRAFANA_URL is set"
LOG_LINES = 40
"""Of a Grafana that did not start."""
SETTINGS = {
    "GF_SERVER_HTTP_ADDR": "127.0.0.1",
    "GF_AUTH_ANONYMOUS_ENABLED": "true",
    "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer",
    "GF_ANALYTICS_REPORTING_ENABLED": "false",
    "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
    "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
    "GF_PLUGINS_PREINSTALL_DISABLED": "true",
    "GF_NEWS_NEWS_FEED_ENABLED": "false",
    "JAEGER_URL": "http://127.0.0.1:16686",
}


class Grafana(Struct, frozen=True):
    """Where its boards are."""

    address: str
    credentials: tuple[str, str] | None = None
    data_source: str = "prometheus"
    prefix: str = ""
    """Of the boards' uids."""

    def board(self, uid: str, since: str) -> str:
        """The address of a board over the time since, without menus and not refreshed by itself."""
        query = {"from": f"now-{since}", "to": "now", "timezone": "utc", "theme": "dark", "refresh": ""}
        query["var-datasource"] = self.data_source
        return f"{self.address}/d/{self.prefix}{uid}?{urlencode(query)}&kiosk"

    @property
    def headers(self) -> dict[str, str]:
        """What each request to it needs: a page without credentials is sent to the login form, not asked for them."""
        if self.credentials is None:
            return {}
        return {"Authorization": f"Basic {base64.b64encode(':'.join(self.credentials).encode()).decode()}"}

    def call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Ask its API. Raises OSError."""
        headers = {"Content-Type": "application/json", **self.headers}
        request = urllib.request.Request(f"{self.address}/api/{path}", method=method, headers=headers)  # noqa: S310
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(request, data, timeout=30) as answer:  # noqa: S310 -- http, on this machine
            return json.loads(answer.read())


@contextmanager
def grafana(folder: Path, prometheus: str, scrape_interval: str) -> Iterator[Grafana]:
    """Either kind, while the block runs."""
    source = data_source(prometheus, scrape_interval)
    with attached(ADDRESS, source) if ADDRESS else _started(folder, source) as found:
        yield found


def data_source(prometheus: str, scrape_interval: str) -> dict[str, Any]:
    """The shipped one of Prometheus at another address."""
    source = yaml.safe_load((PROVISIONING / "datasources/datasources.yaml").read_text())["datasources"][0]
    return {**source, "url": prometheus, "jsonData": {**source["jsonData"], "timeInterval": scrape_interval}}


@contextmanager
def _started(folder: Path, source: dict[str, Any]) -> Iterator[Grafana]:
    """A process with the provisioning files that are shipped."""
    folder.mkdir()
    port = free_port()
    home = os.environ.get("GRAFANA_HOME") or str(Path(str(PROGRAM)).parents[1])
    environment = {
        **SETTINGS,
        "GF_SERVER_HTTP_PORT": str(port),
        "GF_PATHS_DATA": str(folder / "data"),
        "GF_PATHS_LOGS": str(folder / "logs"),
        "GF_PATHS_PLUGINS": str(folder / "plugins"),
        "GF_PATHS_PROVISIONING": str(provisioned(folder / "provisioning", source)),
    }
    found, log = Grafana(f"http://127.0.0.1:{port}"), folder / "grafana.log"
    with process([str(PROGRAM), "server", "--homepath", home], log, environment) as running:
        until(lambda: running.poll() is not None or answers(f"{found.address}/api/health"), "Grafana")
        assert running.poll() is None, "\n".join(log.read_text().splitlines()[-LOG_LINES:])
        until(lambda: all(_there(found, board["uid"]) for board in boards()), "the provisioned boards")
        yield found


def _there(found: Grafana, uid: str) -> bool:
    try:
        return bool(found.call("GET", f"dashboards/uid/{uid}"))
    except OSError:
        return False


def provisioned(folder: Path, source: dict[str, Any]) -> Path:
    """The shipped files with the addresses of this machine."""
    for kind in ("datasources", "dashboards"):
        (folder / kind).mkdir(parents=True)
    shipped = yaml.safe_load((PROVISIONING / "datasources/datasources.yaml").read_text())
    shipped["datasources"] = [source, *shipped["datasources"][1:]]
    (folder / "datasources/datasources.yaml").write_text(yaml.safe_dump(shipped))
    provider = yaml.safe_load((PROVISIONING / "dashboards/dashboards.yaml").read_text())
    provider["providers"][0]["options"]["path"] = str(FOLDER)
    (folder / "dashboards/dashboards.yaml").write_text(yaml.safe_dump(provider))
    return folder


@contextmanager
def attached(address: str, source: dict[str, Any]) -> Iterator[Grafana]:
    """A running one, with a data source and copies of the boards for as long as the block runs."""
    parts, mark = urlsplit(address), f"look-{uuid4().hex[:6]}-"
    host = parts.netloc.rpartition("@")[2]
    credentials = (parts.username, parts.password or "") if parts.username else None
    uid = f"{mark}prometheus"
    found = Grafana(urlunsplit(parts._replace(netloc=host)).rstrip("/"), credentials, uid, mark)
    with ExitStack() as stack:
        found.call("POST", "datasources", {**_plain(source), "uid": uid, "name": uid, "isDefault": False})
        stack.callback(found.call, "DELETE", f"datasources/uid/{uid}")
        for board in boards():
            copy = {**board, "uid": f"{mark}{board['uid']}", "title": f"{board['title']} ({mark}copy)", "id": None}
            found.call("POST", "dashboards/db", {"dashboard": copy, "overwrite": True})
            stack.callback(found.call, "DELETE", f"dashboards/uid/{copy['uid']}")
        yield found


def _plain(source: dict[str, Any]) -> dict[str, Any]:
    """Without the doubled `$` of provisioning files, and without what only they have."""
    text = re.sub(r"\$\$", "$", json.dumps({key: value for key, value in source.items() if key != "editable"}))
    return json.loads(text)
