"""HAProxy sends requests to the pods that it was given and to no others, and sends none a second time."""

from __future__ import annotations

import os
import shutil
import stat
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from loadtest.errors import BadInput
from loadtest.scaling.balancer import Balancer, running_balancer

HAPROXY = os.environ.get("HAPROXY_BIN") or shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
needs_haproxy = pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed, nor named in HAPROXY_BIN")
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Pod(ThreadingHTTPServer):
    """A server that answers with its own name, or breaks the connection off."""

    daemon_threads = True

    def __init__(self, name: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.name = name
        self.asked = 0
        self.broken = False
        self.address = f"127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """Answers GET."""

    def do_GET(self) -> None:
        """Answer, or not."""
        pod = self.server
        assert isinstance(pod, Pod)
        pod.asked += 1
        if not pod.broken:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(pod.name.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the parent's
        """Say nothing."""


@pytest.fixture
def pods() -> Iterator[tuple[Pod, Pod]]:
    """Run two servers."""
    with ExitStack() as stack:
        made = (stack.enter_context(Pod("a")), stack.enter_context(Pod("b")))
        for pod in made:
            threading.Thread(target=pod.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
            stack.callback(pod.shutdown)
        yield made


@pytest.fixture
def balancer(tmp_path: Path) -> Iterator[Balancer]:
    """Run HAProxy with two places."""
    with running_balancer(tmp_path, 2) as running:
        yield running


def ask(balancer: Balancer, times: int = 6) -> set[str]:
    """Give the names of the servers that answered."""
    found = set[str]()
    for _ in range(times):
        with DIRECT.open(balancer.host, timeout=5) as answer:
            found.add(answer.read().decode())
    return found


def status(balancer: Balancer) -> int:
    """Give the status of a request that fails."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        DIRECT.open(balancer.host, timeout=5)
    caught.value.close()
    return caught.value.code


@needs_haproxy
def test_only_the_named_pods_are_asked(balancer: Balancer, pods: tuple[Pod, Pod]) -> None:
    """Without a pod a request is refused; with one it alone answers; with two both do."""
    a, b = pods
    assert status(balancer) == 503
    balancer.follow({"a": a.address})
    assert ask(balancer) == {"a"}
    balancer.follow({"a": a.address, "b": b.address})
    assert ask(balancer) == {"a", "b"}


@needs_haproxy
def test_a_pod_that_leaves_is_asked_no_more(balancer: Balancer, pods: tuple[Pod, Pod]) -> None:
    """Once a pod is not named all traffic goes to the other, and its place is free for a new pod."""
    a, b = pods
    balancer.follow({"a": a.address, "b": b.address})
    balancer.follow({"b": b.address})
    before = a.asked
    assert ask(balancer) == {"b"}
    assert a.asked == before
    balancer.follow({"b": b.address, "c": a.address})
    assert ask(balancer) == {"a", "b"}


@needs_haproxy
def test_a_failed_request_is_not_sent_again(balancer: Balancer, pods: tuple[Pod, Pod]) -> None:
    """A pod that breaks off leaves its client with a 502: another pod does not get the same request."""
    a, b = pods
    a.broken = b.broken = True
    balancer.follow({"a": a.address, "b": b.address})
    assert status(balancer) == 502
    assert a.asked + b.asked == 1


def test_without_haproxy_the_message_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without HAProxy gets one line."""
    monkeypatch.delenv("HAPROXY_BIN", raising=False)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with (
        pytest.raises(BadInput, match=r"^haproxy: is not installed: .*apt-get install haproxy"),
        running_balancer(tmp_path, 2),
    ):
        pass


def test_a_haproxy_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HAPROXY_BIN may be misspelt."""
    monkeypatch.setenv("HAPROXY_BIN", str(tmp_path / "nothing"))
    with (
        pytest.raises(BadInput, match=r"nothing cannot be run: No such file or directory$"),
        running_balancer(tmp_path, 2),
    ):
        pass


def test_a_haproxy_that_does_not_start_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it said before it ended is in the message."""
    program = tmp_path / "broken"
    program.write_text("#!/bin/sh\necho 'no such\nkeyword'\nexit 1\n", encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("HAPROXY_BIN", str(program))
    with pytest.raises(BadInput, match=r"^haproxy did not start: no such keyword$"), running_balancer(tmp_path, 2):
        pass
