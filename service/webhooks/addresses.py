"""Resolve a callback's host name, and check every address before one of them is called."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address

from service.webhooks.callbacks import CallbackPolicy, CallbackRefused, IPAddress, Target

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port → all addresses, in the order in which to try them. Raises OSError."""

MAX_ADDRESSES = 4


async def resolve(host: str, port: int) -> list[str]:
    """Resolve with the system's resolver. Raises OSError for an unknown name."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(address[0]) for *_, address in found]


async def checked_addresses(target: Target, policy: CallbackPolicy, resolve: Resolve) -> list[IPAddress]:
    """Return the addresses to connect to, so that the name is not resolved again.

    All must be allowed: a name with allowed and forbidden addresses is suspicious. Raises CallbackRefused, OSError.
    """
    found = list(dict.fromkeys(await resolve(target.host, target.port)))
    if not found:
        raise OSError("the name stands for no address")
    addresses = [_address(text) for text in found]
    for address in addresses:
        policy.require(address)
    return addresses[:MAX_ADDRESSES]


def _address(text: str) -> IPAddress:
    try:
        return ip_address(text)
    except ValueError:
        raise CallbackRefused("leads to an address that cannot be read") from None
