"""Who may do what: credentials, scopes, ownership and the rate limit."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import httpx
import pytest

from service.features.events import AuthenticationFailed, AuthenticationThrottled, RateLimitDecided
from service.features.identity import DEFAULT_SCOPES, Principal, Scope
from service.security.keys import generate
from service.security.tokens import TokenIssuer
from tests.api.conftest import World, caller
from tests.doubles import NOW
from tests.support import unit_of_work

SECRET = "a secret of at least thirty-two bytes"
ROUTES: list[tuple[str, str, Scope | None]] = [
    ("POST", "/api/v1/auth/token", None),
    ("POST", "/api/v1/datasets", "datasets:write"),
    ("GET", "/api/v1/datasets", "datasets:read"),
    ("GET", "/api/v1/datasets/d", "datasets:read"),
    ("PATCH", "/api/v1/datasets/d", "datasets:write"),
    ("DELETE", "/api/v1/datasets/d", "datasets:write"),
    ("POST", "/api/v1/extract-features", "extractions:write"),
    ("GET", "/api/v1/extraction/e", "extractions:read"),
    ("GET", "/api/v1/extraction/e/status", "extractions:read"),
    ("GET", "/api/v1/extraction/e/features", "extractions:read"),
    ("GET", "/api/v1/extractions", "extractions:read"),
]
PUBLIC = ["/health", "/health/live", "/health/ready", "/api/docs", "/api/redoc", "/api/openapi.json", "/api/problems"]


@pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
async def test_credentials_are_required(world: World, method: str, path: str, scope: Scope | None) -> None:
    """Every route below /api/v1 answers 401 with WWW-Authenticate to a caller without credentials."""
    async with caller(world) as client:
        answer = await client.request(method, path)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="feature-agent"'
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["error_code"] == "not_authenticated"
    assert world.recorder.events[-1] == AuthenticationFailed("missing")


@pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
async def test_each_route_needs_its_scope(world: World, method: str, path: str, scope: Scope | None) -> None:
    """All scopes but the route's own give 403; the route's own, or admin, pass the guard."""
    others: tuple[Scope, ...] = tuple(other for other in DEFAULT_SCOPES if other != scope)
    async with caller(world, await world.api_key("scoped", *others)) as client:
        refused = await client.request(method, path)
    allowed = []
    for scopes in ((scope,) if scope else DEFAULT_SCOPES, ("admin",)):
        async with caller(world, await world.api_key("scoped", *scopes)) as client:
            allowed.append((await client.request(method, path)).status_code)

    assert refused.status_code == (403 if scope else 200)
    assert not {401, 403} & set(allowed)
    if scope:
        assert refused.json()["error_code"] == "scope_missing"
        assert scope in refused.json()["detail"]
        assert AuthenticationFailed("scope") in world.recorder.events


async def test_a_key_is_accepted_in_either_header(world: World) -> None:
    """As a bearer token, in any case of the scheme, or in the API key header."""
    key = await world.api_key()

    for headers in ({"Authorization": f"Bearer {key}"}, {"Authorization": f"bearer  {key}"}, {"X-API-Key": key}):
        async with caller(world, **headers) as client:
            assert (await client.get("/api/v1/datasets")).status_code == 200


async def test_authorization_wins_over_the_key_header(world: World) -> None:
    """A bad bearer token is refused although a good key stands beside it."""
    headers = {"Authorization": "Bearer nonsense", "X-API-Key": await world.api_key()}
    async with caller(world, **headers) as client:
        assert (await client.get("/api/v1/datasets")).status_code == 401


async def test_a_token_made_from_a_key_acts_for_its_principal(world: World) -> None:
    """The exchange answers a bearer token of 30 minutes that reads what the key wrote, with the same scopes."""
    async with caller(world, await world.api_key("grace", "datasets:read", "datasets:write")) as client:
        await client.post("/api/v1/datasets?dataset_id=mine", content=b"a\n1\n", headers={"Content-Type": "text/csv"})
        answer = await client.post("/api/v1/auth/token")
    token = answer.json()["data"]
    async with caller(world, token["access_token"]) as client:
        listed = (await client.get("/api/v1/datasets")).json()["data"]["items"]
        refused = await client.get("/api/v1/extractions")
        renewed = await client.post("/api/v1/auth/token")

    assert answer.status_code == 200
    assert (token["token_type"], token["expires_in"]) == ("Bearer", 1800)
    assert token["scope"] == "datasets:read datasets:write"
    assert answer.headers["cache-control"] == "no-store"
    assert [item["dataset_id"] for item in listed] == ["mine"]
    assert refused.status_code == 403
    assert renewed.status_code == 401


async def test_refused_credentials_are_answered_and_counted(serve: Callable[..., World]) -> None:
    """Wrong, expired and revoked credentials, and other schemes: 401 with the reason in the event."""
    world = serve(jwt_secret=SECRET)
    expired, expired_secret = generate(
        "late", DEFAULT_SCOPES, now=NOW - timedelta(days=2), expires_at=NOW - timedelta(days=1)
    )
    async with unit_of_work(world.database_url) as work:
        await work.keys.add(expired)
    revoked = await world.api_key("gone")
    async with unit_of_work(world.database_url) as work:
        await work.keys.revoke(revoked.split("_")[1], NOW)
    stale = TokenIssuer(SECRET, "HS256").issue(
        Principal("old", frozenset(DEFAULT_SCOPES)), now=NOW - timedelta(hours=1)
    )
    cases = [
        (f"Bearer {expired_secret}", "expired"),
        (f"Bearer {revoked}", "revoked"),
        (f"Bearer {stale}", "expired"),
        (f"Bearer {revoked[:-4]}aaaa", "invalid"),
        ("Bearer not.a.token", "invalid"),
        ("Bearer", "invalid"),
        ("Basic dXNlcjpwYXNz", "invalid"),
        ("Bearer \xe4\xf6", "invalid"),
    ]
    for authorization, reason in cases:
        async with caller(world) as client:
            answer = await client.get("/api/v1/datasets", headers={"Authorization": authorization.encode("latin-1")})
        assert answer.status_code == 401, authorization
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]
        assert world.recorder.events[-1] == AuthenticationFailed(reason), authorization


async def test_what_belongs_to_another_principal_is_not_found(world: World) -> None:
    """The answer is exactly that for what does not exist."""
    async with caller(world, await world.api_key("owner")) as owner:
        await owner.post("/api/v1/datasets?dataset_id=private", content=b"a\n1\n", headers={"Content-Type": "text/csv"})
        body = {"dataset_id": "private", "feature_description": "click rate"}
        identity = (await owner.post("/api/v1/extract-features", json=body)).json()["data"]["extraction_id"]
    async with caller(world, await world.api_key("stranger")) as stranger:
        answers = [
            await stranger.get("/api/v1/datasets/private"),
            await stranger.patch("/api/v1/datasets/private", json={"zone": "UTC"}),
            await stranger.delete("/api/v1/datasets/private"),
            await stranger.post("/api/v1/extract-features", json=body),
            await stranger.get(f"/api/v1/extraction/{identity}"),
            await stranger.get(f"/api/v1/extraction/{identity}/status"),
            await stranger.get(f"/api/v1/extraction/{identity}/features"),
        ]
        lists = [await stranger.get("/api/v1/datasets"), await stranger.get("/api/v1/extractions")]
        again = await stranger.post(
            "/api/v1/datasets?dataset_id=private", content=b"a\n1\n", headers={"Content-Type": "text/csv"}
        )
    async with caller(world, await world.api_key("owner")) as owner:
        kept = await owner.get("/api/v1/datasets/private")

    assert [answer.status_code for answer in answers] == [404] * 7
    assert [answer.json()["data"]["items"] for answer in lists] == [[], []]
    assert again.status_code == 201
    assert kept.status_code == 200


async def test_a_lost_database_at_authentication_is_a_503(serve: Callable[..., World]) -> None:
    """A key that cannot be looked up is not answered as a bad key."""
    world = serve()
    key = await world.api_key()
    world.store.away = True
    async with caller(world, key) as client:
        answer = await client.get("/api/v1/datasets")

    assert answer.status_code == 503
    assert "retry-after" in answer.headers


@pytest.mark.parametrize("path", PUBLIC)
async def test_public_routes_need_no_credentials(serve: Callable[..., World], path: str) -> None:
    """Health, the documentation and the problem types are open, and not limited."""
    world = serve(rate_limit_per_minute=1)
    async with caller(world) as client:
        answers = [await client.get(path) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert "ratelimit-limit" not in answers[0].headers


async def test_the_limit_is_counted_down_and_enforced(serve: Callable[..., World]) -> None:
    """Each answer, errors too, says what is left; then 429 with Retry-After, for this principal alone."""
    world = serve(rate_limit_per_minute=3)
    async with caller(world, await world.api_key("busy")) as client:
        answers = [await client.get("/api/v1/datasets/missing") for _ in range(4)]
    async with caller(world, await world.api_key("idle")) as client:
        other = await client.get("/api/v1/datasets")

    assert [answer.status_code for answer in answers] == [404, 404, 404, 429]
    assert [answer.headers["ratelimit-limit"] for answer in answers] == ["3"] * 4
    assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["2", "1", "0", "0"]
    assert all(0 <= int(answer.headers["ratelimit-reset"]) <= 60 for answer in answers)
    problem = answers[3].json()
    assert problem["error_code"] == "rate_limited"
    assert int(answers[3].headers["retry-after"]) == problem["retry_after"] >= 1
    assert other.status_code == 200
    decisions = [event.decision for event in world.recorder.of(RateLimitDecided)]
    assert decisions == ["allowed"] * 3 + ["limited", "allowed"]


async def test_without_a_limit_there_are_no_ratelimit_fields(client: httpx.AsyncClient) -> None:
    """A deployment without a limit sends no RateLimit fields."""
    answer = await client.get("/api/v1/datasets")

    assert "ratelimit-limit" not in answer.headers


async def test_a_preflight_and_options_are_not_limited(serve: Callable[..., World]) -> None:
    """OPTIONS needs no credentials and is not counted."""
    world = serve(rate_limit_per_minute=1)
    async with caller(world) as client:
        answers = [await client.options("/api/v1/extractions") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [204] * 3
    assert "GET" in answers[0].headers["allow"]


async def test_guesses_are_refused_unread(serve: Callable[..., World]) -> None:
    """429 with Retry-After and no look at the database, on every route; known and missing credentials as ever."""
    world = serve(failed_logins_per_minute=3, jwt_secret=SECRET)
    known, new = await world.api_key("ada"), await world.api_key("bob")
    async with caller(world, known) as client:
        token = (await client.post("/api/v1/auth/token")).json()["data"]["access_token"]
        assert (await client.get("/api/v1/datasets", headers={"Authorization": f"Bearer {token}"})).status_code == 200

    async def answer(credential: str, method: str = "GET", path: str = "/api/v1/datasets") -> httpx.Response:
        async with caller(world, credential) as client:
            return await client.request(method, path)

    forged = TokenIssuer("another secret of at least thirty-two bytes", "HS256").issue(
        Principal("ada", frozenset(DEFAULT_SCOPES)), now=NOW
    )
    first = [
        await answer(known[:-4] + "aaaa"),
        await answer("fa_none", "POST", "/api/v1/auth/token"),
        await answer(forged),
    ]
    looked = world.store.begun
    guesses = [f"fa_{number:012x}_{'a' * 43}" for number in range(20)]
    later = [await answer(guess) for guess in guesses]
    exchange = await answer(guesses[0], "POST", "/api/v1/auth/token")
    unknown = await answer(new)
    assert world.store.begun == looked
    good = [await answer(known), await answer(token), await answer(known, "POST", "/api/v1/auth/token")]
    async with caller(world) as client:
        missing = await client.get("/api/v1/datasets")

    assert [one.status_code for one in first] == [401] * 3
    assert {one.status_code for one in (*later, exchange, unknown)} == {429}
    assert exchange.json()["error_code"] == "too_many_failures"
    assert 1 <= int(exchange.headers["retry-after"]) == exchange.json()["retry_after"] <= 10
    assert [one.status_code for one in good] == [200] * 3
    assert missing.status_code == 401
    assert len(world.recorder.of(AuthenticationThrottled)) == 22


async def test_clients_behind_a_trusted_proxy_do_not_share_their_guesses(serve: Callable[..., World]) -> None:
    """Uvicorn takes the address from X-Forwarded-For when the peer is in FORWARDED_ALLOW_IPS (127.0.0.1)."""
    world = serve(failed_logins_per_minute=1)
    statuses = []
    for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"):
        async with caller(world, "fa_guess", X_Forwarded_For=address) as client:
            statuses.append((await client.get("/api/v1/datasets")).status_code)

    assert statuses == [401, 429, 401, 401, 429]
