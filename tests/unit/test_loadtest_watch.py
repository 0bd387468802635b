"""The service's metrics over a run: processes that restart, come and go, and addresses that are something else."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from loadtest.errors import BadInput
from loadtest.measure import watch as watching
from loadtest.measure.api import Api, require_address, require_key
from loadtest.measure.audit import audit
from loadtest.measure.selector import Selector
from loadtest.measure.watch import Watch, fetch
from loadtest.traffic.clients import Ledger

MIB = 2**20


@dataclass
class Served:
    """What a small server answers, path by path."""

    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict[str, tuple[int, bytes]])
    headers: dict[str, str] = field(default_factory=dict[str, str])
    seen: list[str] = field(default_factory=list[str])
    url: str = ""

    def metrics(self, requests: float, started: float = 1000, **more: float) -> None:
        """Answer a scrape with that many requests counted."""
        values = {"process_start_time_seconds": started, 'api_requests_total{endpoint="/x",status="200"}': requests}
        lines = "".join(f"{name} {value}\n" for name, value in {**values, **more}.items())
        self.answers["/metrics"] = (200, lines.encode())


@contextmanager
def serving(host: str = "127.0.0.1", port: int = 0) -> Iterator[Served]:
    """A small HTTP server; what is not known is answered 404."""
    served = Served()

    class Handler(http.server.BaseHTTPRequestHandler):
        def _answer(self) -> None:
            served.seen.append(f"{self.command} {self.path}")
            path = self.path if self.path in served.answers else self.path.partition("?")[0]
            status, body = served.answers.get(path, (404, b""))
            self.send_response(status)
            for name, value in {**served.headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_DELETE = _answer  # noqa: N815 - the names of http.server

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer((host, port), Handler) as server:
        served.url = f"http://{host}:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield served
        server.shutdown()


def counted(watch: Watch) -> float:
    """Requests over the run."""
    return Selector("api_requests_total").total(watch.counted())


def looking(*urls: str) -> Watch:
    """A watch that looks when it is asked to."""
    return Watch(urls, ["api_requests_total"])


def test_what_was_counted_before_the_run_is_left_out() -> None:
    """Counters count from the first look on; gauges are taken as they are."""
    with serving() as served:
        watch = looking(f"{served.url}/metrics")
        served.metrics(100, process_cpu_seconds_total=5, api_requests_in_flight=1)
        watch.look()
        served.metrics(
            130, process_cpu_seconds_total=7, api_requests_in_flight=3, process_resident_memory_bytes=5 * MIB
        )
        watch.look()
        assert counted(watch) == 30
        [first, last] = watch.points
        assert (first.cpu_seconds, last.cpu_seconds) == (0, 2)
        assert (last.in_flight, last.memory_mib, last.processes) == (3, 5, 1)
        assert watch.restarts == 0


def test_a_process_that_restarts() -> None:
    """A process that started anew is a restart, and what it counted before and after adds up."""
    with serving() as served:
        watch = looking(f"{served.url}/metrics")
        for requests, started in ((100, 1000), (110, 1000), (4, 2000), (9, 2000), (1, 3000)):
            served.metrics(requests, started)
            watch.look()
        assert counted(watch) == 10 + 9 + 1
        assert watch.restarts == 2


def test_a_process_that_does_not_answer_for_a_while() -> None:
    """A scrape that fails is left out: it is no restart, and nothing that was counted is lost or doubled."""
    with serving() as served:
        watch = looking(f"{served.url}/metrics")
        served.metrics(100)
        assert watch.look() == 1
        served.answers["/metrics"] = (503, b"")
        assert watch.look() == 0
        served.metrics(150)
        assert watch.look() == 1
        assert (counted(watch), watch.restarts, len(watch.points)) == (50, 0, 2)


def test_pods_that_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a pod counted that came during the run belongs to the run, one that left keeps its own; neither restarts."""
    with serving("127.0.0.1") as one, serving("127.0.0.2", int(one.url.rpartition(":")[2])) as other:
        port, addresses = one.url.rpartition(":")[2], ["127.0.0.1"]

        real = socket.getaddrinfo

        def resolve(name: str, asked: int, *arguments: Any, **options: Any) -> list[Any]:
            if name != "pods":
                return real(name, asked, *arguments, **options)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, asked)) for address in addresses]

        monkeypatch.setattr(watching.socket, "getaddrinfo", resolve)
        watch = looking(f"dns+http://pods:{port}/metrics")
        one.metrics(100)
        watch.look()
        addresses[:] = ["127.0.0.2", "127.0.0.1", "127.0.0.2"]
        one.metrics(110)
        other.metrics(7, process_resident_memory_bytes=3 * MIB)
        assert watch.look() == 2
        addresses[:] = ["127.0.0.2"]
        other.metrics(12)
        assert watch.look() == 1
        assert (counted(watch), watch.restarts) == (10 + 12, 0)
        assert [point.processes for point in watch.points] == [1, 2, 1]


def test_a_name_without_an_address_has_no_pods() -> None:
    """A name that does not resolve has no processes, which is bad input when a run begins."""
    with pytest.raises(BadInput, match="no metrics there"), looking("dns+http://no-such-name.invalid:1/metrics"):
        raise AssertionError


@pytest.mark.parametrize(
    "body", [b"<html>hello</html>", b"", b"other_total 3\n", b"api_requests_total soon\n", b"\xff"]
)
def test_metrics_of_something_else(body: bytes) -> None:
    """An address with other contents is no process of the service."""
    with serving() as served:
        served.answers["/metrics"] = (200, body)
        with pytest.raises(BadInput, match="--metrics URL"), looking(f"{served.url}/metrics"):
            raise AssertionError


def test_it_looks_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """From `with` to its end a watch looks again and again."""
    monkeypatch.setattr(watching, "SCRAPE_SECONDS", 0.02)
    with serving() as served:
        served.metrics(1)
        with looking(f"{served.url}/metrics") as watch:
            last = time.monotonic() + 30
            while len(watch.points) < 4 and time.monotonic() < last:
                time.sleep(0.01)
        assert len(watch.points) >= 4
        scrapes = len(served.seen)
        time.sleep(0.1)
        assert len(served.seen) == scrapes


def test_facts_of_the_service() -> None:
    """Version, memory limit and the share of cached answers come from its metrics."""
    with serving() as served:
        watch = looking(f"{served.url}/metrics")
        served.metrics(0, **{'application_info{version="1.2"}': 1, "memory_limit_bytes": 64 * MIB})
        watch.look()
        assert (watch.version, watch.memory_limit_mib, watch.cache_share()) == ("1.2", 64, 0)
        hits = {
            'cache_requests_total{cache="result",result="hit"}': 2,
            'cache_requests_total{cache="plan",result="hit"}': 1,
            'cache_requests_total{cache="plan",result="miss",level="memory"}': 9,
        }
        served.metrics(0, **{**hits, "memory_limit_bytes": 0})
        watch.look()
        assert (watch.memory_limit_mib, watch.cache_share()) == (0, 0.25)


# -- hosts and keys ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["http://a", "https://a:8443", "http://a:80/", "http://[::1]:8000", "http://127.0.0.1:1"]
)
def test_an_address(host: str) -> None:
    """An address is taken without its slash."""
    assert require_address(host) == host.rstrip("/")


@pytest.mark.parametrize(
    "host",
    [
        *(
            "",
            "a",
            "a:80",
            "ftp://a",
            "http://",
            "http://:80",
            "http://a/b",
            "http://a?b=c",
            "http://a#b",
            "http://a:b",
        ),
        *("http://a:99999", "http://a:0", "http://[::1", "http://a b", "http://a\n", "file:///etc/passwd"),
    ],
)
def test_what_is_no_address(host: str) -> None:
    """Anything but http or https, a name and a port is bad input."""
    with pytest.raises(BadInput, match=r"write it as http://name:port or https://name:port"):
        require_address(host)


@pytest.mark.parametrize("key", ["", "a\nb", "a\tb", "schlüssel", "\x00"])
def test_what_is_no_key(key: str) -> None:
    """A key that no header can carry is bad input, and is not shown."""
    with pytest.raises(BadInput) as caught:
        require_key(key)
    assert not key or key not in str(caught.value)


def refuses(host: str, minimum: float = 0) -> str:
    """Why a host is refused before a run."""
    with pytest.raises(BadInput) as caught:
        Api(host, "key").require_ready(minimum)
    return str(caught.value)


def test_hosts_that_cannot_be_tested() -> None:
    """A host that is not there, is another program, refuses the key or takes too few requests is refused for that."""
    listing = "/api/v1/extractions"
    with serving() as served:
        assert "answered 404 where feature-agent lists extractions" in refuses(served.url)
        served.answers[listing] = (401, b'{"error_code": "invalid_api_key"}')
        assert "refuses it (401 invalid_api_key)" in refuses(served.url)
        served.answers[listing] = (500, b"oops")
        assert "answered 500" in refuses(served.url)
        served.answers[listing], served.headers["RateLimit-Limit"] = (200, b"{}"), "60"
        assert "takes 60 requests a minute of it and this run makes up to 61" in refuses(served.url, 61)
        Api(served.url, "key").require_ready(60)
        gone = served.url
    assert "cannot be reached: Connection re" in refuses(gone)  # fused, or set when it has just been left


@contextmanager
def speaking(sentence: bytes) -> Iterator[str]:
    """A server that answers every connection with the same bytes and closes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(4096)
                    connection.sendall(sentence)

        threading.Thread(target=answer, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    "sentence", [b"", b"SSH-2.0-x\r\n", b"-ERR\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"]
)
def test_hosts_that_speak_something_else(sentence: bytes) -> None:
    """A server of another protocol, or one that breaks off, is refused in one line."""
    with speaking(sentence) as host:
        assert "cannot be reached" in refuses(host)
        with pytest.raises(OSError, match=r"."):
            fetch(f"{host}/metrics")


# -- the audit ---------------------------------------------------------------------------------------------------


def listing(served: Served, statuses: dict[str, str], tables: tuple[str, ...] = ()) -> None:
    """Answer with these extractions, of which some have tables, in two pages."""
    items = [f'{{"extraction_id": "{of}", "status": "{status}"}}' for of, status in statuses.items()]
    halves = items[: len(items) // 2], items[len(items) // 2 :]
    for query, half, cursor in (("", halves[0], '"c"'), ("&cursor=c", halves[1], "null")):
        page = f'{{"data": {{"items": [{",".join(half)}], "next_cursor": {cursor}}}}}'
        served.answers[f"/api/v1/extractions?dataset_id=d&limit=100{query}"] = (200, page.encode())
    for of in tables:
        served.answers[f"/api/v1/extraction/{of}/features"] = (200, b"{}")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for."""
    monkeypatch.setattr("loadtest.measure.audit.END_TIMEOUT_SECONDS", 0.0)
    monkeypatch.setattr("loadtest.measure.audit.LOOK_SECONDS", 0.01)
    monkeypatch.setattr("loadtest.measure.api.PAUSE_SECONDS", 0.01)


def ledger(**accepted: str) -> Ledger:
    """What clients were promised."""
    made = Ledger()
    for key, extraction in accepted.items():
        made.note(key, extraction)
    return made


@pytest.mark.usefixtures("impatient")
def test_everything_promised_is_there() -> None:
    """Nothing is lost or doubled when every extraction is there once; a failed one is counted, not lost."""
    with serving() as served:
        listing(served, {"a": "completed", "b": "failed", "c": "completed"}, ("a", "c"))
        found = audit(Api(served.url, "key"), ledger(k1="a", k2="b", k3="c", again="a"), ["d"])
    assert (found.accepted, found.completed, found.failed, found.lost, found.doubled) == (3, 2, 1, [], [])


@pytest.mark.usefixtures("impatient")
def test_what_is_lost() -> None:
    """An extraction that is not there, has not ended, or has no table is lost, each with its own sentence."""
    with serving() as served:
        listing(served, {"a": "completed", "b": "queued"}, ())
        found = audit(Api(served.url, "key"), ledger(k1="a", k2="b", k3="c"), ["d"])
    assert found.lost == [
        "k3: extraction c is not there",
        "extraction b is still queued",
        "extraction a is completed and its table cannot be downloaded",
    ]


@pytest.mark.usefixtures("impatient")
def test_what_is_doubled() -> None:
    """Two extractions under a key, and more extractions than clients cannot account for, are doubled."""
    promised = ledger(k1="a")
    promised.note("k1", "b")
    with serving() as served:
        listing(served, {"a": "completed", "b": "completed", "x": "completed"}, ("a", "b", "x"))
        found = audit(Api(served.url, "key"), promised, ["d"])
        assert found.doubled == [
            "k1: answered with two extractions",
            "2 extractions that no client asked for, such as b",
        ]
        promised.unknown += ["k2", ""]
        assert audit(Api(served.url, "key"), promised, ["d"]).doubled == ["k1: answered with two extractions"]


@pytest.mark.usefixtures("impatient")
def test_an_audit_asks_again_after_a_fault() -> None:
    """A table is not lost because the service answered 500 when the audit asked for it."""
    with serving() as served:
        listing(served, {"a": "completed"}, ("a",))
        path = "/api/v1/extraction/a/features"
        served.answers[path] = (500, b"")
        recovering = threading.Thread(target=_recover, args=(served, path))
        recovering.start()
        found = audit(Api(served.url, "key"), ledger(k1="a"), ["d"])
        recovering.join()
    assert found.lost == []


def _recover(served: Served, path: str) -> None:
    last = time.monotonic() + 30
    while not any(path in one for one in served.seen) and time.monotonic() < last:
        time.sleep(0.001)
    served.answers[path] = (200, b"{}")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("change", ["gone", "broken", "other"])
def test_a_service_that_is_gone_has_lost_everything(change: str) -> None:
    """A service that cannot list its extractions after the run has lost what it accepted; that is no traceback."""
    with serving() as served:
        changes: dict[str, Callable[[], object]] = {
            "gone": lambda: None,
            "broken": lambda: served.answers.update({"/api/v1/extractions": (500, b"")}),
            "other": lambda: served.answers.update({"/api/v1/extractions": (200, b"[]")}),
        }
        changes[change]()
        host = served.url
        if change != "gone":
            found = audit(Api(host, "key"), ledger(k1="a", k2="b"), ["d"])
    if change == "gone":
        found = audit(Api(host, "key"), ledger(k1="a", k2="b"), ["d"])
    assert found.accepted == 2
    assert "the 2 accepted extractions cannot be listed any more" in found.lost[0]
