"""Webhooks over real sockets: what is sent, to whom, and what counts as an answer."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from service.features.delivery import Delivery, Sent
from service.telemetry import catalog
from service.webhooks.callbacks import CallbackPolicy
from service.webhooks.sender import HttpSender
from service.webhooks.signing import WebhookSecrets
from tests.receiver import Receiver

NOW = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC)
SECRETS = WebhookSecrets(["a new secret of thirty-two bytes or more", "an old secret of thirty-two bytes or more"])
HOME = CallbackPolicy(allow_private=True)
NAME = "hooks.example.org"
LONG = 60.0
"""Bounds a hang, no more."""


def delivery_to(url: str) -> Delivery:
    """A message to that address."""
    return Delivery("msg_1", "x", "ada", url, "extraction.completed", '{"type":"extraction.completed"}', NOW, attempt=1)


class Names:
    """A resolver of the test's own: gives its answers in turn, the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Look up."""
        self.asked.append((host, port))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def sender(**parts: Any) -> HttpSender:
    """A sender that may call this machine, whatever a name says."""
    cheap = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody
    given = {
        "tls": cheap,
        "policy": HOME,
        "seconds": LONG,
        "resolve": Names(["127.0.0.1"]),
        "tracer_provider": TracerProvider(),
    }
    return HttpSender(secrets=SECRETS, version="1.2.3", **{**given, **parts})


async def test_a_message_is_sent_as_standard_webhooks_says() -> None:
    """A signed POST of the very bytes, to the path and query of the address, asked for by its name."""
    with Receiver(204) as receiver:
        sent = await sender().send(delivery_to(receiver.url(NAME, "/hook%20s?a=b&c=%2F")), NOW)

    assert sent == Sent("delivered", 204)
    (had,) = receiver.had
    assert (had.path, had.body) == ("/hook%20s?a=b&c=%2F", b'{"type":"extraction.completed"}')
    assert had.headers["host"] == f"{NAME}:{receiver.port}"
    assert had.headers["content-type"] == "application/json"
    assert had.headers["user-agent"] == "feature-agent/1.2.3"
    assert (had.headers["webhook-id"], had.headers["webhook-timestamp"]) == ("msg_1", str(int(NOW.timestamp())))
    assert [had.signed_with(secret) for secret in SECRETS.of("ada")] == [True, True]
    assert not had.signed_with(SECRETS.of("bob")[0])


def retry_after(value: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answers 503 with that field."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(503)
        handler.send_header("Retry-After", value)
        handler.end_headers()

    return answer


@pytest.mark.parametrize(
    ("answer", "sent"),
    [
        *[(status, Sent("delivered", status)) for status in (200, 201, 202, 204, 299)],
        *[(status, Sent("rejected", status)) for status in (300, 304, 400, 401, 404, 429, 500, 502, 504, 599)],
        (410, Sent("gone", 410)),
        (retry_after("120"), Sent("rejected", 503, 120.0)),
        *[(retry_after(odd), Sent("rejected", 503)) for odd in ("-1", "soon", "1e9", "9" * 40, "Wed, 21 Oct")],
    ],
)
async def test_only_a_2xx_means_that_it_has_arrived(answer: Any, sent: Sent) -> None:
    """Everything else is a failure, 410 for good; a Retry-After in seconds is understood."""
    with Receiver(answer) as receiver:
        assert await sender().send(delivery_to(receiver.url()), NOW) == sent


async def test_redirects_are_not_followed() -> None:
    """A redirect is a failure, and its target is not called."""
    with Receiver() as elsewhere:

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(307)
            handler.send_header("Location", elsewhere.url())
            handler.end_headers()

        with Receiver(answer) as receiver:
            assert await sender().send(delivery_to(receiver.url()), NOW) == Sent("rejected", 307)
        assert elsewhere.had == []


async def test_nothing_of_an_answers_body_is_read() -> None:
    """A receiver that answers without end has answered; the connection is closed at once."""
    hung_up = threading.Event()

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b"x" * 65_536)
        except OSError:
            hung_up.set()

    with Receiver(endless) as receiver:
        assert await sender().send(delivery_to(receiver.url()), NOW) == Sent("delivered", 200)
        assert await asyncio.to_thread(hung_up.wait, LONG)


def drip(handler: BaseHTTPRequestHandler) -> None:
    """Sends a head that never ends, so that each single read is quick."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    try:
        while True:
            handler.wfile.write(b"X-More: 1\r\n")
            time.sleep(0.02)
    except OSError:
        return


def silent(handler: BaseHTTPRequestHandler) -> None:
    """Says nothing until the other side hangs up."""
    handler.connection.recv(1)


@pytest.mark.parametrize("answer", [drip, silent])
async def test_a_slow_receiver_has_had_its_time(answer: Callable[[BaseHTTPRequestHandler], None]) -> None:
    """However it spends it, a try ends in time."""
    with Receiver(answer) as receiver:
        assert (await sender(seconds=0.5).send(delivery_to(receiver.url()), NOW)).outcome in {"timeout", "unreachable"}


async def test_a_slow_resolver_has_had_its_time() -> None:
    """Looking a name up is part of the try."""

    async def never(host: str, port: int) -> Sequence[str]:
        await asyncio.sleep(LONG)
        return []

    assert await sender(seconds=0.2, resolve=never).send(delivery_to("http://slow.example/"), NOW) == Sent("timeout")


async def test_what_does_not_speak_http_is_not_reached() -> None:
    """A closed port, a broken connection, another protocol, and an unknown name."""

    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"220 smtp.example.org ESMTP\r\n")
        writer.close()

    async def unknown(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    server = await asyncio.start_server(garbage, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await sender().send(delivery_to(f"http://127.0.0.1:{port}/"), NOW) == Sent("unreachable")
        assert await sender().send(delivery_to(f"https://127.0.0.1:{port}/"), NOW) == Sent("unreachable")
    assert await sender().send(delivery_to(f"http://127.0.0.1:{port}/"), NOW) == Sent("unreachable")
    assert await sender(resolve=unknown).send(delivery_to("http://nowhere.example/"), NOW) == Sent("unreachable")
    assert await sender(resolve=Names([])).send(delivery_to("http://nothing.example/"), NOW) == Sent("unreachable")


@pytest.mark.parametrize(
    "answers",
    [["127.0.0.1"], ["::ffff:127.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["169.254.169.254"], ["10.0.0.1"], ["x"]],
)
async def test_a_name_that_leads_inside_is_not_called(answers: list[str]) -> None:
    """One address that is not public is enough, beside however many that are: nothing is even connected to."""
    with Receiver() as receiver:
        names = Names(answers)
        sent = await sender(policy=CallbackPolicy(), resolve=names).send(delivery_to(receiver.url(NAME)), NOW)

    assert sent == Sent("refused")
    assert (receiver.had, names.asked) == ([], [(NAME, receiver.port)])


async def test_a_name_that_changes_its_mind_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address that was checked is the one that is called: within a try no name is looked up a second time."""
    looked_up: list[str] = []
    real = socket.getaddrinfo

    def watched(host: Any, *arguments: Any, **named: Any) -> Any:
        looked_up.append(host if isinstance(host, str) else host.decode())
        return real(host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", watched)
    with Receiver(host="127.0.0.1") as checked, Receiver(host="127.0.0.2", port=checked.port) as other:
        names = Names(["127.0.0.1"], ["127.0.0.2"])
        first = await sender(resolve=names).send(delivery_to(checked.url(NAME)), NOW)
        asked = [*names.asked]
        strict = sender(policy=CallbackPolicy(), resolve=names)
        second = await strict.send(delivery_to(checked.url(NAME)), NOW)

    assert (first, second) == (Sent("delivered", 200), Sent("refused"))
    assert (len(checked.had), len(other.had), asked) == (1, 0, [(NAME, checked.port)])
    assert all(ipaddress.ip_address(host) for host in looked_up)


async def test_the_machines_own_resolver_is_asked_by_default() -> None:
    """Without a resolver of a test's, `localhost` leads to this machine, which is refused or called as allowed."""
    with Receiver(host="127.0.0.1") as receiver:
        parts: dict[str, Any] = {"secrets": SECRETS, "tracer_provider": TracerProvider(), "version": "1"}
        allowed, strict = (HttpSender(policy=policy, **parts) for policy in (HOME, CallbackPolicy()))
        assert await allowed.send(delivery_to(receiver.url("localhost")), NOW) == Sent("delivered", 200)
        assert await strict.send(delivery_to(receiver.url("localhost")), NOW) == Sent("refused")
    assert len(receiver.had) == 1


async def test_the_next_address_of_a_name_is_tried() -> None:
    """When the first takes no connection; nothing was sent to it, so nothing is sent twice."""
    with Receiver(host="127.0.0.1") as receiver:
        names = Names(["127.0.0.2", "127.0.0.1"])
        assert await sender(resolve=names).send(delivery_to(receiver.url(NAME)), NOW) == Sent("delivered", 200)
    assert len(receiver.had) == 1


async def test_the_environments_proxy_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would resolve the name again, and might call another address."""
    with Receiver() as receiver, Receiver() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url(path=""))
        assert await sender().send(delivery_to(receiver.url(NAME)), NOW) == Sent("delivered", 200)
    assert (len(receiver.had), proxy.had) == (1, [])


def contexts(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context for a certificate of that name, and a client's that trusts it."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / f"{name}.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cafile=str(pem))


async def test_tls_verifies_the_name(tmp_path: Path) -> None:
    """The connection goes to the checked address; the certificate has to be the name's, from a CA that is trusted."""
    server, client = contexts(tmp_path, NAME)
    asked: list[str | None] = []
    server.sni_callback = lambda _socket, name, _context: asked.append(name)
    with Receiver(tls=server) as receiver:
        delivery = delivery_to(receiver.url(NAME))
        assert await sender(tls=client).send(delivery, NOW) == Sent("delivered", 200)
        other = replace(delivery, url=receiver.url("other.example.org"))
        assert await sender(tls=client).send(other, NOW) == Sent("unreachable")
        assert await sender().send(delivery, NOW) == Sent("unreachable")

    assert asked[:2] == [NAME, "other.example.org"]
    assert [had.headers["host"] for had in receiver.had] == [f"{NAME}:{receiver.port}"]


async def test_production_requires_https() -> None:
    """Also of an address that was taken in before the deployment became one."""
    with Receiver() as receiver:
        policy = CallbackPolicy(https_only=True, allow_private=True)
        assert await sender(policy=policy).send(delivery_to(receiver.url()), NOW) == Sent("refused")
    assert receiver.had == []


async def test_each_try_is_a_span_that_keeps_the_address_to_itself() -> None:
    """A CLIENT span with host and status, an error when it failed; its trace goes with the request."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with Receiver() as receiver:
        delivery = delivery_to(receiver.url(NAME, "/T0K3N"))
        await sender(tracer_provider=provider).send(delivery, NOW)
        receiver.answer = 500
        await sender(tracer_provider=provider).send(delivery, NOW)
        await sender(tracer_provider=provider, policy=CallbackPolicy()).send(delivery, NOW)

    arrived, rejected, refused = exporter.get_finished_spans()
    (known,) = (span for span in catalog.SPANS if span.name == arrived.name)
    assert (arrived.kind, arrived.status.status_code) == (SpanKind.CLIENT, StatusCode.UNSET)
    assert arrived.attributes is not None
    assert arrived.attributes["server.address"] == NAME
    assert arrived.attributes["http.response.status_code"] == 200
    for span, error in ((rejected, "500"), (refused, "refused")):
        assert span.status.status_code == StatusCode.ERROR
        assert span.attributes is not None
        assert span.attributes["error.type"] == error
        assert set(span.attributes) <= set(known.attributes)
    assert "T0K3N" not in str([span.to_json() for span in exporter.get_finished_spans()])
    context = arrived.get_span_context()
    assert context is not None
    assert receiver.had[0].headers["traceparent"].startswith(f"00-{context.trace_id:032x}-{context.span_id:016x}-")
