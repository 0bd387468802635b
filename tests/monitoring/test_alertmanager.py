from __future__ import annotations

import itertools
import json
import re
import socketserver
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from observability.source.alertmanager import shipped
from observability.source.durations import seconds_of, written
from observability.source.links import filled
from tests.monitoring.tools import ALERTS, alerts, run, tool
from tools.gameday.monitoring import free_port

CONFIGS = (ALERTS / "alertmanager.yml", ALERTS / "alertmanager.local.yml")
PATIENCE = 60.0
ROUTES = {
    ("Watchdog", "none"): "heartbeat",
    ("ApiDown", "critical"): "pager",
    ("ApiAvailabilityBudgetBurn", "critical"): "pager",
    ("ApiAvailabilityBudgetBurn", "warning"): "tickets",
    ("ErrorBudgetSpent", "warning"): "tickets",
    ("CertificateExpiring", "warning"): "chat",
    ("CertificateExpiring", "critical"): "pager",
    ("ModelSpend", "warning"): "owners",
    ("PrincipalBudgetSpent", "warning"): "owners",
    ("RedisDown", "warning"): "chat",
}
"""Some by name; all others go by their severity."""
BY_SEVERITY = {"critical": "pager", "warning": "chat", "none": "nobody"}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.name)
def test_configuration_is_valid(config: Path) -> None:
    """The configuration and its templates are accepted by amtool."""
    assert "SUCCESS" in run(tool("amtool"), "check-config", config)


def _different() -> list[dict[str, str]]:
    """The labels of every shipped alert, but for the windows of burn alerts, which route nothing."""
    found = [{"alertname": rule["alert"], **rule["labels"]} for rule in alerts()]
    unlike = {(each["alertname"], each["severity"]): each for each in found}
    return list(unlike.values())


@pytest.mark.parametrize("labels", _different(), ids=lambda labels: f"{labels['alertname']}-{labels['severity']}")
def test_every_alert_reaches_its_receiver(labels: dict[str, str]) -> None:
    """Each shipped alert, with the labels of its rule, is routed to the receiver that it is meant for."""
    severity = labels["severity"]
    burns_slowly = labels["alertgroup"].startswith("budget-") and severity == "warning"
    expected = ROUTES.get((labels["alertname"], severity), "tickets" if burns_slowly else BY_SEVERITY[severity])
    words = [f"{name}={value}" for name, value in labels.items()]
    told = run(tool("amtool"), "config", "routes", "test", f"--config.file={CONFIGS[0]}", *words)
    assert told.split() == [expected]


def test_every_route_is_taken_by_some_alert() -> None:
    """No route is there for nothing: each receiver but that of strangers' heartbeats is some alert's."""
    taken = {
        ROUTES.get((rule["alert"], rule["labels"]["severity"]), BY_SEVERITY[rule["labels"]["severity"]])
        for rule in alerts()
    }
    assert {receiver["name"] for receiver in shipped()["receivers"]} - taken == {"nobody"}
    assert "nobody" in run(tool("amtool"), "config", "routes", "test", f"--config.file={CONFIGS[0]}", "severity=none")


def test_no_secret_is_in_the_configuration() -> None:
    """Secrets are files: the configuration holds none, nor a place where one would stand."""
    text = CONFIGS[0].read_text()
    for name in ("routing_key:", "api_url:", "auth_password:", "smtp_auth_password:", "credentials:", "slack_api_url:"):
        assert name not in text
    files = [line.split()[-1].rstrip("}") for line in text.splitlines() if "_file: " in line]
    assert len(files) == 5
    assert all(path.startswith("/etc/alertmanager/secrets/") for path in files)


def test_local_configuration_tells_nobody() -> None:
    """On one's own machine nothing leaves it: the same routes and inhibitions, receivers without integrations."""
    local = yaml.safe_load(CONFIGS[1].read_text())
    assert {name: local[name] for name in ("route", "inhibit_rules")} == {
        name: shipped()[name] for name in ("route", "inhibit_rules")
    }
    assert all(receiver.keys() == {"name"} for receiver in local["receivers"])


class Sink:
    """What PagerDuty, Slack, a webhook and a mail server would get."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, str, dict[str, Any]]] = []
        self.mails: list[str] = []
        self.heartbeats: list[float] = []
        posts, mails, heartbeats = self.posts, self.mails, self.heartbeats

        class Web(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                posts.append((self.path, self.headers.get("Authorization", ""), body))
                if self.path == "/heartbeat":
                    heartbeats.append(time.monotonic())
                answer = b'{"status":"success"}' if self.path == "/pagerduty" else b"ok"
                self.send_response(202 if self.path == "/pagerduty" else 200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the name is the base class's
                """Say nothing."""

        class Mail(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(b"220 sink\r\n")
                while line := self.rfile.readline():
                    word = line.strip().upper()
                    if word == b"DATA":
                        self.wfile.write(b"354 go on\r\n")
                        mails.append(b"".join(iter(self.rfile.readline, b".\r\n")).decode())
                    self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")
                    if word == b"QUIT":
                        return

        self.web = ThreadingHTTPServer(("127.0.0.1", 0), Web)
        self.mail = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mail)
        self.mail.daemon_threads = True

    @contextmanager
    def running(self) -> Iterator[Sink]:
        """Listen while the block runs."""
        for server in (self.web, self.mail):
            threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield self
        finally:
            for server in (self.web, self.mail):
                server.shutdown()
                server.server_close()


def _here(sink: Sink, folder: Path, divisor: float | None) -> dict[str, Any]:
    """The shipped configuration, with addresses and secret files of this test's own; nothing else differs.

    Groups are sent soon, or with all of the routes' durations divided.
    """
    web, mail = (f"127.0.0.1:{server.server_address[1]}" for server in (sink.web, sink.mail))
    secrets = folder / "secrets"
    secrets.mkdir()
    for name in ("pagerduty-routing-key", "smtp-password", "webhook-token", "heartbeat-token"):
        (secrets / name).write_text(f"secret-{name}")
    (secrets / "slack-url").write_text(f"http://{web}/slack")
    text = CONFIGS[0].read_text().replace("/etc/alertmanager/secrets", str(secrets))
    text = text.replace("http://incidents.example.com/feature-agent", f"http://{web}/incidents")
    text = text.replace("http://heartbeat.example.com/feature-agent", f"http://{web}/heartbeat")
    config = yaml.safe_load(text.replace("smtp.example.com:587", mail))
    config["global"] |= {"smtp_require_tls": False, "pagerduty_url": f"http://{web}/pagerduty"}
    del config["global"]["smtp_auth_username"]
    config["templates"] = [str(ALERTS / "templates/*.tmpl")]
    for route in (config["route"], *config["route"]["routes"]):
        soon = {"group_wait": "0s", "group_interval": "1s"}
        route.update(soon if divisor is None else _divided(route, divisor))
    return config


def _divided(route: dict[str, Any], divisor: float) -> dict[str, str]:
    names = [name for name in route if name.endswith(("_wait", "_interval"))]
    return {name: written(seconds_of(route[name]) / divisor) for name in names}


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[tuple[str, Sink]]:
    """A real Alertmanager with the shipped configuration, and the far ends of its receivers."""
    with _managing(tmp_path) as found:
        yield found


@contextmanager
def _managing(folder: Path, divisor: float | None = None) -> Iterator[tuple[str, Sink]]:
    program, port = tool("prometheus-alertmanager"), free_port()
    with Sink().running() as sink:
        (folder / "alertmanager.yml").write_text(yaml.safe_dump(_here(sink, folder, divisor)))
        command = [
            program, f"--config.file={folder / 'alertmanager.yml'}", f"--storage.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=",
        ]  # fmt: skip
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            url = f"http://127.0.0.1:{port}"
            _await(lambda: _answers(f"{url}/-/ready"), "Alertmanager")
            yield url, sink
        finally:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 -- our own server
            return answer.status == 200
    except OSError:
        return False


def _await(done: Any, what: str) -> None:
    limit = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < limit, f"{what} did not come"
        time.sleep(0.05)


STARTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def _fire(url: str, alert: str, severity: str, **labels: str) -> None:
    """Have Prometheus' part done: the alert with what its rule says."""
    [rule, *_] = [each for each in alerts() if (each["alert"], each["labels"]["severity"]) == (alert, severity)]
    now = STARTED.timestamp()
    annotations = {name: filled(text, "http://prom", now) for name, text in rule["annotations"].items()}
    body = [
        {
            "labels": {"alertname": alert, **rule["labels"], **labels},
            "annotations": annotations,
            "startsAt": STARTED.isoformat(),
            "endsAt": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
            "generatorURL": "http://prom/graph",
        }
    ]
    request = urllib.request.Request(  # noqa: S310 -- our own server
        f"{url}/api/v2/alerts", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 -- likewise
        assert answer.status == 200


FROM, TO = (str(round((STARTED + timedelta(hours=hours)).timestamp() * 1000)) for hours in (-3, 1))
HEADLINE = "[FIRING:1] ApiDown (api-availability): No API process answers Prometheus."


def test_a_page_arrives_everywhere(manager: tuple[str, Sink]) -> None:
    """A critical alert reaches PagerDuty, Slack and the webhook, each with its secret, its runbook and fixed times."""
    url, sink = manager
    _fire(url, "ApiDown", "critical")
    _await(lambda: {"/pagerduty", "/slack", "/incidents"} <= {path for path, _, _ in sink.posts}, "a page")
    posts = {path: (auth, body) for path, auth, body in sink.posts if "ApiDown" in json.dumps(body)}
    page = posts["/pagerduty"][1]
    assert page["routing_key"] == "secret-pagerduty-routing-key"
    assert page["payload"]["summary"] == HEADLINE
    assert page["payload"]["severity"] == "critical"
    assert {link["text"]: re.sub(r"viewPanel=panel-\d+&", "", link["href"]) for link in page["links"]} == {
        "Runbook": "http://prom/user/runbooks/ApiDown.md",
        "Dashboard": f"http://localhost:3000/d/feature-agent-overview?from={FROM}&to={TO}",
    }
    assert posts["/incidents"][0] == "Bearer secret-webhook-token"
    assert posts["/incidents"][1]["alerts"][0]["annotations"]["dashboard_url"].endswith(f"from={FROM}&to={TO}")
    [attachment] = posts["/slack"][1]["attachments"]
    assert attachment["title"] == HEADLINE
    assert attachment["title_link"].endswith(f"&from={FROM}&to={TO}")
    assert "No API process answers Prometheus." in attachment["text"]
    assert "Since 2026-01-02 03:04:05 UTC" in attachment["text"]
    assert "Runbook: http://prom/user/runbooks/ApiDown.md" in attachment["text"]


def test_tickets_and_costs_arrive_by_mail(manager: tuple[str, Sink]) -> None:
    """A budget that burns slowly is mailed to the team, money to the owners."""
    url, sink = manager
    _fire(url, "ApiLatencyExtractBudgetBurn", "warning")
    _fire(url, "ModelSpend", "warning")
    _await(lambda: len(sink.mails) >= 2, "mail")
    by_subject = {"BudgetBurn" in mail: mail for mail in sink.mails}
    assert "feature-agent-team@example.com" in by_subject[True]
    assert "feature-agent-owners@example.com" in by_subject[False]
    assert all("alerts@example.com" in mail for mail in sink.mails)


def test_heartbeat_arrives_and_is_never_over(manager: tuple[str, Sink]) -> None:
    """The watchdog reaches its own receiver with its own secret."""
    url, sink = manager
    _fire(url, "Watchdog", "none")
    _await(lambda: any(path == "/heartbeat" for path, _, _ in sink.posts), "a heartbeat")
    [(auth, body), *_] = [(auth, body) for path, auth, body in sink.posts if path == "/heartbeat"]
    assert auth == "Bearer secret-heartbeat-token"
    assert body["status"] == "firing"


def test_heartbeat_comes_every_minute(tmp_path: Path) -> None:
    """The shipped durations, divided by 20: a heartbeat every 3 s, none left out."""
    with _managing(tmp_path, divisor=20) as (url, sink):
        _fire(url, "Watchdog", "none")
        _await(lambda: len(sink.heartbeats) > 4, "five heartbeats")
    gaps = [later - earlier for earlier, later in itertools.pairwise(sink.heartbeats)]
    assert all(2 < gap < 4.5 for gap in gaps), gaps


def test_what_happens_together_is_one_page(manager: tuple[str, Sink]) -> None:
    """Budgets that burn are one page, whichever come; so are alerts about one objective."""
    url, sink = manager
    for alert in ("ApiAvailabilityBudgetBurn", "ExtractionSuccessBudgetBurn", "ApiLatencyReadBudgetBurn"):
        _fire(url, alert, "critical", long="1h", short="5m")
    _await(lambda: "[FIRING:3]" in str(_pages(sink)), "three budgets")
    assert len({page["dedup_key"] for page in _pages(sink)}) == 1
    assert all("burns 14.4 times as fast" in page["payload"]["summary"] for page in _pages(sink))
    for alert in ("ApiDown", "ApiTargetsDown"):
        _fire(url, alert, "critical")
    _await(lambda: "ApiDown" in str(_pages(sink)), "a page about the API")
    assert len({page["dedup_key"] for page in _pages(sink)}) == 2


def _pages(sink: Sink) -> list[dict[str, Any]]:
    return [body for path, _, body in sink.posts if path == "/pagerduty"]


@pytest.mark.parametrize(
    ("source", "target", "labels"),
    [
        (("ApiDown", "critical"), ("ApiAvailabilityBudgetBurn", "critical"), {}),
        (("ApiDown", "critical"), ("TargetDown", "warning"), {"job": "feature-agent"}),
        (("OldestJobTooOld", "critical"), ("QueueGrowing", "warning"), {}),
        (("CertificateExpiring", "critical"), ("CertificateExpiring", "warning"), {}),
        (("ModelBreakerOpen", "warning"), ("ModelErrors", "warning"), {"model": "m"}),
        (("PostgresDown", "critical"), ("NoLiveWorker", "critical"), {}),
        (("NoLiveWorker", "critical"), ("ExtractionFreshnessBudgetBurn", "critical"), {}),
        (("OldestJobTooOld", "critical"), ("ApiLatencyExtractBudgetBurn", "critical"), {}),
        (("ApiDown", "critical"), ("ProbeFailing", "critical"), {}),
        (("DiskNearlyFull", "critical"), ("DiskNearlyFull", "warning"), {}),
    ],
)
def test_a_cause_silences_what_follows_from_it(
    manager: tuple[str, Sink], source: tuple[str, str], target: tuple[str, str], labels: dict[str, str]
) -> None:
    """While the source fires the target is held back."""
    url, _ = manager
    _fire(url, *source, **({"model": "m"} if source[0].startswith("Model") else {}))
    _fire(url, *target, **labels)
    _await(lambda: _state(url, *target) == "suppressed", f"suppression of {target[0]}")
    assert _state(url, *source) == "active"


def test_a_stranger_is_not_silenced(manager: tuple[str, Sink]) -> None:
    """A target of another job, and a warning about something else, are told whatever else fires."""
    url, _ = manager
    _fire(url, "ApiDown", "critical")
    _fire(url, "TargetDown", "warning", job="redis", instance="r")
    _fire(url, "RedisMemory", "warning")
    _await(lambda: _state(url, "TargetDown", "warning", job="redis") == "active", "the other target")
    _await(lambda: _state(url, "RedisMemory", "warning") == "active", "the other warning")


def _state(url: str, alert: str, severity: str, **labels: str) -> str | None:
    wanted = {"alertname": alert, "severity": severity, **labels}
    with urllib.request.urlopen(f"{url}/api/v2/alerts", timeout=30) as answer:  # noqa: S310 -- our own server
        found = json.loads(answer.read())
    return next((each["status"]["state"] for each in found if wanted.items() <= each["labels"].items()), None)
