"""Check that the database, Redis and the artifact store can be used, with messages for operators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import psycopg
from obstore.exceptions import PermissionDeniedError, UnauthenticatedError
from redis.asyncio import BlockingConnectionPool

from service.features.errors import DependencyUnavailable
from service.features.ports import Artifacts
from service.store.artifacts import PING_TIMEOUT_SECONDS
from service.store.failures import DependencyUnusable
from service.store.redis_pool import ping

DATABASE_REMEDY = "Start PostgreSQL, or correct DATABASE_URL."
REFUSED_REMEDY = "Correct the account, password or database in DATABASE_URL, or what the server allows it."
ENCODING_REMEDY = "Create a database with ENCODING 'UTF8' and name it in DATABASE_URL."
WRITES_REMEDY = "Name the primary server in DATABASE_URL."
MIGRATION_REMEDIES = {
    "42501": "Let its account create tables there: GRANT CREATE ON SCHEMA public, or make it the database's owner.",
    "55P03": "Start again when nothing holds its tables for long; pg_stat_activity names who does.",
}
"""By PostgreSQL's error code: insufficient privilege, and a lock timeout."""
OTHER_REMEDY = "Nothing was changed; remove what stands in the way and start again."
REDIS_REMEDY = "Start Redis, correct REDIS_URL or REDIS_PASSWORD, or leave REDIS_URL out."
ARTIFACTS_REMEDY = "Correct ARTIFACTS_URL, its credentials, or the rights on its bucket or folder."


async def reach_database(arguments: Mapping[str, Any]) -> None:
    """Connect once with psycopg's arguments, and check the server's parameters. Raises DependencyUnusable.

    SQLAlchemy's own first connection fails on a database without UTF8 before it can say why.
    """
    place = place_of(arguments)
    try:
        connection = await psycopg.AsyncConnection.connect(**arguments)
    except psycopg.Error as error:
        why = reason(error)
        raise DependencyUnusable(f"{place} cannot be used: {why}.", _remedy(why)) from error
    status = connection.info.parameter_status
    encoding, standby, closed = (
        status(name) for name in ("server_encoding", "in_hot_standby", "default_transaction_read_only")
    )
    await connection.close()
    if encoding not in {"UTF8", None}:
        raise DependencyUnusable(f"{place} has the encoding {encoding}; the service needs UTF8.", ENCODING_REMEDY)
    if "on" in {standby, closed}:
        raise DependencyUnusable(f"{place} takes no writes.", WRITES_REMEDY)


def not_migrated(arguments: Mapping[str, Any], error: psycopg.Error, revision: str) -> DependencyUnusable:
    """Describe a failed migration."""
    what = f"{place_of(arguments)} cannot be brought to revision {revision}: {reason(error)}."
    return DependencyUnusable(what, MIGRATION_REMEDIES.get(error.sqlstate or "", OTHER_REMEDY))


def place_of(arguments: Mapping[str, Any]) -> str:
    """Describe the server, database and account in psycopg's arguments, without the password."""
    host = str(arguments.get("host") or "its default address")
    port = "" if host.startswith("/") or not arguments.get("port") else f":{arguments['port']}"
    names = {"database": arguments.get("dbname"), "account": arguments.get("user")}
    return f"PostgreSQL at {host}{port}" + "".join(f", {name} {value}" for name, value in names.items() if value)


def reason(error: psycopg.Error) -> str:
    """Return the server's or driver's message in one line, without the address that it repeats."""
    said = error.diag.message_primary or next(iter(str(error).splitlines()), "") or type(error).__name__
    return said.rpartition(" failed: ")[2].rstrip(". ")


async def reach_redis(pool: BlockingConnectionPool) -> None:
    """Check that Redis answers. Raises DependencyUnusable."""
    try:
        await ping(pool)
    except DependencyUnavailable as error:
        options = pool.connection_kwargs
        where = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
        said = next(iter(str(error.__cause__).splitlines()), "") or "no answer in time"
        what = f"Redis at {where}, database {options.get('db', 0)}, cannot be used: {said.rstrip('. ')}."
        raise DependencyUnusable(what, REDIS_REMEDY) from error


async def reach_artifacts(artifacts: Artifacts, url: str) -> None:
    """Check that the artifact store at that address accepts a file. Raises DependencyUnusable."""
    try:
        await artifacts.ping()
    except (DependencyUnavailable, FileNotFoundError) as error:
        address = urlsplit(url)
        where = f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path}" if address.scheme else url
        what = f"The artifact store at {where} cannot be used: {_store_reason(error)}."
        raise DependencyUnusable(what, ARTIFACTS_REMEDY) from error


def _store_reason(error: Exception) -> str:
    """Describe the error without the client's message, which may repeat a signed URL."""
    match error if isinstance(error, FileNotFoundError) else error.__cause__:
        case FileNotFoundError():
            return "there is no such bucket"
        case PermissionDeniedError() | UnauthenticatedError():
            return "it refuses the credentials, or they may not write"
        case OSError(strerror=str(why)):
            return why
        case _:
            return f"no answer within {PING_TIMEOUT_SECONDS:.0f} s"


def _remedy(why: str) -> str:
    """Choose the remedy: a message of the server itself begins with a localised severity, a colon and two spaces."""
    return REFUSED_REMEDY if ":  " in why else DATABASE_REMEDY
