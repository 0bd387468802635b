"""What a callback's name stands for at this moment: every address is checked, and one of those checked is called."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address

from service.webhooks.callbacks import CallbackPolicy, CallbackRefused, IPAddress, Target

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port → all addresses, in the order in which they are to be tried. Raises OSError."""

MAX_TRIED = 4


async def resolve(host: str, port: int) -> list[str]:
    """Ask the machine's resolver. Raises OSError for a name that stands for nothing."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(address[0]) for *_, address in found]


async def checked_addresses(target: Target, policy: CallbackPolicy, resolve: Resolve) -> list[IPAddress]:
    """The addresses to connect to, none of which is looked up again.

    All must be allowed, not only one: a name that stands for both kinds is not one to trust. Raises CallbackRefused,
    OSError.
    """
    found = list(dict.fromkeys(await resolve(target.host, target.port)))
    if not found:
        raise OSError("the name stands for no address")
    addresses = [_address(text) for text in found]
    for address in addresses:
        policy.require(address)
    return addresses[:MAX_TRIED]


def _address(text: str) -> IPAddress:
    try:
        return ip_address(text)
    except ValueError:
        raise CallbackRefused("leads to an address that cannot be read") from None
