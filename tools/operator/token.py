"""`feature-agent token`: exchange an API key for an access token."""

from __future__ import annotations

import os

import click

from service.commands.failures import InputRefused
from service.commands.running import print_json, with_storage
from service.features.errors import NotAuthenticated
from service.resources.secrets import read_secret
from service.resources.storage import Storage
from service.security.tokens import LIFETIME_SECONDS


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, as POST /api/v1/auth/token answers.")
def token(*, as_json: bool) -> None:
    """Print an access token for the key in FEATURE_AGENT_KEY, or for the development key."""

    async def work(storage: Storage) -> tuple[str, str]:
        key = os.environ.get("FEATURE_AGENT_KEY") or read_secret(storage.development_key_path)
        if not key:
            raise InputRefused("no key: set FEATURE_AGENT_KEY, or run `feature-agent serve` once to make one")
        try:
            issued, principal = await storage.authenticator.exchange(key)
        except NotAuthenticated as error:
            raise InputRefused(error.message) from None
        return issued, " ".join(sorted(principal.scopes))

    issued, scope = with_storage(work)
    if as_json:
        print_json({"access_token": issued, "token_type": "Bearer", "expires_in": LIFETIME_SECONDS, "scope": scope})
    else:
        click.echo(issued)
