from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from service.features.errors import DependencyUnavailable, NotAuthenticated
from service.features.identity import DEFAULT_SCOPES, ApiKey, Principal
from service.features.stores import Store
from service.security import authenticator as module
from service.security import keyring, keys
from service.security.authenticator import Authenticator
from service.security.tokens import TokenIssuer
from service.store.database import open_database

SECRET = "integration-test-secret-" + "x" * 40
START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class Time:
    """Wall clock and monotonic timer of a test, moved together."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        """The present instant."""
        return START + timedelta(seconds=self.seconds)

    def timer(self) -> float:
        """Monotonic seconds."""
        return self.seconds


class Table:
    """Keys in memory behind the store's protocol; yields, counts look-ups, and can be unavailable or slow."""

    def __init__(self) -> None:
        self.records: dict[str, ApiKey] = {}
        self.lookups: list[str] = []
        self.away = False
        self.waiting = 0
        self.most_waiting = 0
        self.open = asyncio.Event()
        self.open.set()

    @asynccontextmanager
    async def begin(self, *, watching: bool = False) -> AsyncIterator[Any]:
        """One unit of work."""
        if self.away:
            raise DependencyUnavailable("The database does not answer.")
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        await asyncio.sleep(0)
        await self.open.wait()
        self.waiting -= 1
        yield SimpleNamespace(keys=self)

    async def find(self, key_id: str) -> ApiKey | None:
        """The key of that id."""
        self.lookups.append(key_id)
        return self.records.get(key_id)

    def make(self, name: str = "acme", *, expires_at: datetime | None = None) -> tuple[ApiKey, str]:
        """Store a new key."""
        key, secret = keys.generate(name, DEFAULT_SCOPES, now=START - timedelta(days=1), expires_at=expires_at)
        self.records[key.id] = key
        return key, secret

    def revoke(self, key_id: str, at: datetime) -> None:
        """Revoke a key."""
        self.records[key_id] = msgspec.structs.replace(self.records[key_id], revoked_at=at)


@pytest.fixture
def time() -> Time:
    """The test's time."""
    return Time()


@pytest.fixture
def table() -> Table:
    """An empty table of keys."""
    return Table()


def pod(store: Any, time: Time) -> Authenticator:
    """An authenticator as one process has it."""
    return Authenticator(store, TokenIssuer(SECRET, "HS256", timer=time.timer), time, timer=time.timer)


@pytest.fixture
def auth(table: Table, time: Time) -> Authenticator:
    """The authenticator under test."""
    return pod(table, time)


async def refusal(answer: Awaitable[object]) -> str:
    """The reason of a refusal."""
    with pytest.raises(NotAuthenticated) as raised:
        await answer
    return raised.value.reason


# -------------------------------------------------------------------------------------------------- what is accepted


async def test_a_key_is_its_principal(auth: Authenticator, table: Table) -> None:
    """A stored key is accepted as the principal it was made for, with its scopes."""
    _, secret = table.make("acme")
    assert await auth.authenticate(secret) == Principal("acme", frozenset(DEFAULT_SCOPES))


async def test_a_key_is_exchanged_for_a_token_of_the_same_principal(auth: Authenticator, table: Table) -> None:
    """The token speaks for the key's principal, and is accepted where the key is."""
    _, secret = table.make("acme")
    token, principal = await auth.exchange(secret)
    assert principal == Principal("acme", frozenset(DEFAULT_SCOPES))
    assert await auth.authenticate(token) == principal


async def test_a_token_made_without_a_key_is_accepted(auth: Authenticator, table: Table, time: Time) -> None:
    """A token issued without a key is valid until it expires, and needs no query."""
    token = TokenIssuer(SECRET, "HS256").issue(Principal("ops", frozenset({"admin"})), now=time.now())
    table.away = True
    assert (await auth.authenticate(token)).id == "ops"
    time.seconds = 1800.0
    assert await refusal(auth.authenticate(token)) == "expired"


# --------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("credential", [None, ""])
async def test_no_credential_is_missing(auth: Authenticator, credential: str | None) -> None:
    """A missing credential is distinguished from a wrong one."""
    assert await refusal(auth.authenticate(credential)) == "missing"
    assert await refusal(auth.exchange(credential)) == "missing"


@pytest.mark.parametrize("credential", ["fa_", "fa_nonsense", "nonsense", "a.b.c", "é", "fa_" + "é" * 56])
async def test_malformed_credentials_never_reach_the_database(
    auth: Authenticator, table: Table, credential: str
) -> None:
    """What has neither a key's form nor a good signature is refused on its own."""
    assert await refusal(auth.authenticate(credential)) == "invalid"
    assert await refusal(auth.exchange(credential)) == "invalid"
    assert table.lookups == []


async def test_a_wrong_secret_under_a_real_id_is_invalid(auth: Authenticator, table: Table, time: Time) -> None:
    """Knowing a key's public id grants nothing, and reveals nothing about the key's state."""
    key, secret = table.make()
    forged = secret[:-1] + ("A" if secret[-1] != "A" else "B")
    assert await refusal(auth.authenticate(forged)) == "invalid"
    table.revoke(key.id, time.now())
    assert await refusal(pod(table, time).authenticate(forged)) == "invalid"
    assert await refusal(pod(table, time).authenticate(secret)) == "revoked"


async def test_an_unknown_id_is_compared_all_the_same(
    auth: Authenticator, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An id that does not exist costs the same hash and comparison as a real one, so time does not tell them apart."""
    compared: list[str] = []
    genuine = keys.matches

    def counted(key: ApiKey, secret: str) -> bool:
        compared.append(key.id)
        return genuine(key, secret)

    monkeypatch.setattr(module.keys, "matches", counted)
    key, secret = table.make()
    wrong = secret[:-1] + ("A" if secret[-1] != "A" else "B")
    unknown = keys.generate("ghost", DEFAULT_SCOPES, now=START)[1]
    assert await refusal(auth.authenticate(wrong)) == await refusal(auth.authenticate(unknown)) == "invalid"
    assert compared == [key.id, ""]


async def test_a_token_cannot_renew_itself(auth: Authenticator, table: Table) -> None:
    """Only a key is exchanged for a token."""
    token, _ = await auth.exchange(table.make()[1])
    assert await refusal(auth.exchange(token)) == "invalid"


async def test_an_expired_key_ends_with_its_tokens(auth: Authenticator, table: Table, time: Time) -> None:
    """At a key's expiry it and the tokens issued for it stop working, cached or not."""
    _, secret = table.make(expires_at=START + timedelta(seconds=5))
    token, _ = await auth.exchange(secret)
    time.seconds = 4.0
    assert (await auth.authenticate(secret)) == (await auth.authenticate(token))
    time.seconds = 5.0
    assert await refusal(auth.authenticate(secret)) == "expired"
    assert await refusal(auth.authenticate(token)) == "expired"
    assert await refusal(auth.exchange(secret)) == "expired"


async def test_a_token_of_another_service_is_invalid(auth: Authenticator, time: Time) -> None:
    """Another secret's signature is refused."""
    token = TokenIssuer("y" * 32, "HS256").issue(Principal("acme", frozenset({"admin"})), now=time.now())
    assert await refusal(auth.authenticate(token)) == "invalid"


# --------------------------------------------------------------------------------------------- revocation and memory


async def test_a_revocation_reaches_every_process_within_seconds(table: Table, time: Time) -> None:
    """Once the cached record has expired, key and token are refused in processes that had accepted both."""
    key, secret = table.make()
    pods = [pod(table, time) for _ in range(2)]
    token, _ = await pods[0].exchange(secret)
    for process in pods:
        await process.authenticate(secret)
        await process.authenticate(token)
    table.revoke(key.id, time.now())
    time.seconds = keyring.FRESH_SECONDS
    for process in pods:
        assert await refusal(process.authenticate(secret)) == "revoked"
        assert await refusal(process.authenticate(token)) == "revoked"


async def test_a_token_whose_key_is_gone_is_revoked(auth: Authenticator, table: Table, time: Time) -> None:
    """Deleting a key's record ends its tokens as revoking it does."""
    key, secret = table.make()
    token, _ = await auth.exchange(secret)
    del table.records[key.id]
    time.seconds = keyring.FRESH_SECONDS
    assert await refusal(auth.authenticate(token)) == "revoked"


async def test_a_key_in_use_is_looked_up_once_while_fresh(auth: Authenticator, table: Table, time: Time) -> None:
    """A key and its token share one cached record, which is queried again when it has expired."""
    key, secret = table.make()
    token, _ = await auth.exchange(secret)
    for _ in range(50):
        await auth.authenticate(secret)
        await auth.authenticate(token)
    assert table.lookups == [key.id]
    time.seconds = keyring.FRESH_SECONDS
    await auth.authenticate(token)
    assert table.lookups == [key.id, key.id]


async def test_a_repeated_bad_key_asks_the_database_once(auth: Authenticator, table: Table) -> None:
    """An unknown id is cached as such."""
    unknown = keys.generate("ghost", DEFAULT_SCOPES, now=START)[1]
    assert {await refusal(auth.authenticate(unknown)) for _ in range(50)} == {"invalid"}
    assert len(table.lookups) == 1


async def test_a_flood_of_bad_keys_leaves_room_for_good_ones(auth: Authenticator, table: Table) -> None:
    """A flood with ever new ids uses at most four connections, and pushes no key in use out of memory."""
    key, secret = table.make()
    await auth.authenticate(secret)
    table.open.clear()
    flood = [keys.generate("ghost", DEFAULT_SCOPES, now=START)[1] for _ in range(100)]
    refused = asyncio.gather(*(refusal(auth.authenticate(bad)) for bad in flood))
    await asyncio.sleep(0)
    assert (await auth.authenticate(secret)).id == "acme", "a remembered key does not wait behind the flood"
    table.open.set()
    assert set(await refused) == {"invalid"}
    assert table.most_waiting == 4
    assert table.lookups.count(key.id) == 1


async def test_a_burst_with_one_new_key_hardly_asks(auth: Authenticator, table: Table) -> None:
    """A hundred first requests with one key, known or not, end in at most four look-ups."""
    _, secret = table.make()
    unknown = keys.generate("ghost", DEFAULT_SCOPES, now=START)[1]
    accepted = await asyncio.gather(*(auth.authenticate(secret) for _ in range(100)))
    assert {principal.id for principal in accepted} == {"acme"}
    assert len(table.lookups) <= 4
    assert set(await asyncio.gather(*(refusal(auth.authenticate(unknown)) for _ in range(100)))) == {"invalid"}
    assert len(table.lookups) <= 8


async def test_without_the_database_known_keys_work_while_fresh(auth: Authenticator, table: Table, time: Time) -> None:
    """During an outage of the database cached keys work; others get 503, never a bad credential."""
    _, secret = table.make()
    token, _ = await auth.exchange(secret)
    _, stranger = table.make("stranger")
    table.away = True
    assert (await auth.authenticate(secret)).id == (await auth.authenticate(token)).id == "acme"
    with pytest.raises(DependencyUnavailable):
        await auth.authenticate(stranger)
    time.seconds = keyring.FRESH_SECONDS
    for credential in (secret, token):
        with pytest.raises(DependencyUnavailable):
            await auth.authenticate(credential)
    table.away = False
    assert (await auth.authenticate(token)).id == "acme"


# ------------------------------------------------------------------------------------------------ the real database


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    """The store on a fresh PostgreSQL database."""
    database = open_database(database_url, pool_size=2, max_overflow=0, pool_timeout=10.0)
    await database.migrate()
    yield database.store
    await database.close()


async def test_keys_live_and_end_in_postgresql(store: Store, time: Time) -> None:
    """Stored, found, exchanged and revoked in the real database, a key behaves as its record says."""
    key, secret = keys.generate("acme", DEFAULT_SCOPES, now=time.now())
    async with store.begin() as unit:
        await unit.keys.add(key)
    auth = pod(store, time)
    token, principal = await auth.exchange(secret)
    assert principal == await auth.authenticate(token) == Principal("acme", frozenset(DEFAULT_SCOPES))
    assert await refusal(auth.authenticate(keys.generate("ghost", DEFAULT_SCOPES, now=START)[1])) == "invalid"
    async with store.begin() as unit:
        assert await unit.keys.revoke(key.id, time.now())
    time.seconds = keyring.FRESH_SECONDS
    assert await refusal(auth.authenticate(secret)) == "revoked"
    assert await refusal(auth.authenticate(token)) == "revoked"
