"""Send a webhook: one signed POST to a checked address; only the head of the response is read."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from http import HTTPStatus

import httpx2
from opentelemetry.trace import Span, SpanKind, StatusCode, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.features.delivery import Delivery, Sent
from service.webhooks.addresses import Resolve, checked_addresses, resolve
from service.webhooks.callbacks import CallbackPolicy, CallbackRefused, IPAddress, Target
from service.webhooks.signing import WebhookSecrets, headers_for

ATTEMPT_SPAN = "webhook.attempt"
CONNECT_TIMEOUT_SECONDS = 5.0
"""For one address; then the next one of the same name is tried."""
_PROPAGATOR = TraceContextTextMapPropagator()
_FAULTS = (httpx2.HTTPError, httpx2.InvalidURL, OSError)


class HttpSender:
    """Implement `delivery.WebhookSender`.

    Each attempt connects to an address that it has just resolved and checked, and sends the name in TLS and in the Host
    field: the address of the name cannot change between the check and the call. Redirects are not followed, proxies of
    the environment not used, cookies not kept. SSL_CERT_FILE can name other certificate authorities.
    """

    def __init__(
        self,
        *,
        secrets: WebhookSecrets,
        policy: CallbackPolicy,
        tracer_provider: TracerProvider,
        version: str,
        seconds: float = 15.0,
        resolve: Resolve = resolve,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`seconds` bounds one attempt in all."""
        self._secrets = secrets
        self._policy = policy
        self._tracer = tracer_provider.get_tracer("service.webhooks")
        self._agent = f"feature-agent/{version}"
        self._seconds = seconds
        self._resolve = resolve
        self._given_tls = tls

    async def send(self, delivery: Delivery, now: datetime) -> Sent:
        """Sign and send it, within the time for one try; every failure is an outcome."""
        with self._span(delivery) as span:
            try:
                async with asyncio.timeout(self._seconds):
                    sent = await self._send(delivery, now, span)
            except CallbackRefused:
                sent = Sent("refused")
            except (TimeoutError, httpx2.TimeoutException):
                sent = Sent("timeout")
            except _FAULTS:
                sent = Sent("unreachable")
            if sent.outcome != "delivered":
                span.set_status(StatusCode.ERROR)
                span.set_attribute("error.type", str(sent.status_code or sent.outcome))
        return sent

    async def _send(self, delivery: Delivery, now: datetime, span: Span) -> Sent:
        target = self._policy.target(delivery.url)
        span.set_attribute("server.address", target.host)
        addresses = await checked_addresses(target, self._policy, self._resolve)
        body = delivery.body.encode()
        headers = headers_for(delivery.id, now, body, self._secrets.of(delivery.owner))
        _PROPAGATOR.inject(headers)
        requests = [self._request(delivery.url, target, address, headers, body) for address in addresses]
        response = await self._first_reached(requests)
        span.set_attribute("http.response.status_code", response.status_code)
        return _outcome(response)

    def _request(
        self, url: str, target: Target, address: IPAddress, headers: dict[str, str], body: bytes
    ) -> httpx2.Request:
        named = httpx2.URL(url)
        timeout = httpx2.Timeout(self._seconds, connect=min(CONNECT_TIMEOUT_SECONDS, self._seconds))
        own = {"host": named.netloc.decode(), "user-agent": self._agent, "content-type": "application/json"}
        return httpx2.Request(
            "POST",
            named.copy_with(host=str(address)),
            headers=headers | own | {"accept": "*/*", "connection": "close"},
            content=body,
            extensions={"timeout": timeout.as_dict(), "sni_hostname": target.host},
        )

    async def _first_reached(self, requests: Sequence[httpx2.Request]) -> httpx2.Response:
        """Return the response's head from the first address that accepts a connection."""
        *others, last = requests
        for request in others:
            try:
                return await self._head(request)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                continue
        return await self._head(last)

    async def _head(self, request: httpx2.Request) -> httpx2.Response:
        transport = httpx2.AsyncHTTPTransport(verify=self._tls, trust_env=False)
        async with transport:
            response = await transport.handle_async_request(request)
            await response.aclose()
        return response

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return self._given_tls or httpx2.create_ssl_context()

    @contextmanager
    def _span(self, delivery: Delivery) -> Generator[Span]:
        with self._tracer.start_as_current_span(
            ATTEMPT_SPAN,
            kind=SpanKind.CLIENT,
            attributes={
                "http.request.method": "POST",
                "extraction.id": delivery.extraction_id,
                "feature_agent.webhook.id": delivery.id,
                "feature_agent.attempt": delivery.attempt,
            },
            record_exception=False,  # messages may quote the URL, which may hold a secret
            set_status_on_exception=False,
        ) as span:
            yield span


def _outcome(response: httpx2.Response) -> Sent:
    status = response.status_code
    if response.is_success:
        return Sent("delivered", status)
    if status == HTTPStatus.GONE:
        return Sent("gone", status)
    asked = response.headers.get("retry-after", "")
    seconds = float(asked) if asked.isascii() and asked.isdecimal() and len(asked) < 10 else None  # noqa: PLR2004 -- digits
    return Sent("rejected", status, seconds)
