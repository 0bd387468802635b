"""Decide which callback URLs and addresses the service calls, to prevent server-side request forgery.

A client must not make the service call what only the service can reach. The URL is checked when it is requested, and
every address of its host name at each delivery.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct

MAX_URL_LENGTH = 2048
DEFAULT_PORTS = {"http": 80, "https": 443}
MIN_UNPRIVILEGED_PORT = 1024
NON_HTTP_PORTS = frozenset({
    1719, 1720, 1723, 2049, 3306, 3659, 4045, 4190, 5060, 5061, 5432, 6000, 6379, 6566, 6665, 6666, 6667, 6668, 6669,
    6679, 6697, 10080, 11211, 27017,
})  # fmt: skip
"""Ports above 1023 of other protocols, whose servers might accept an HTTP request as their own."""

IPAddress = IPv4Address | IPv6Address

_NETWORKS = (
    # "this network", private, shared (carrier), loopback, link-local (metadata of clouds), private
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
    # protocol assignments, documentation, 6to4 relays, private, benchmarks, documentation, multicast, reserved
    "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24",
    "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
)  # fmt: skip
SPECIAL = tuple(IPv4Network(network) for network in _NETWORKS)
"""IPv4 networks outside of the public Internet (IANA's registry of special-purpose addresses)."""
PRIVATE = tuple(
    IPv4Network(network)
    for network in ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
)
"""Those that a deployment may allow."""
METADATA = (
    *(IPv4Address(address) for address in ("168.63.129.16", "100.100.100.200", "192.0.0.192")),
    IPv6Address("fd00:ec2::254"),
)
"""Metadata services of clouds beside link-local addresses, which give out credentials: never called."""
GLOBAL_UNICAST = IPv6Network("2000::/3")
SPECIAL_V6 = tuple(IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
"""Protocol assignments with Teredo, documentation, 6to4, documentation."""
PRIVATE_V6 = (IPv6Network("::1/128"), IPv6Network("fc00::/7"))
NAT64 = IPv6Network("64:ff9b::/96")
"""IPv4 addresses as an IPv6-only network writes them; they are checked as IPv4 addresses."""

_PRINTABLE = re.compile(r"[!-~]+")
_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62}))*\.?")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")


class CallbackRefused(Exception):
    """The URL is not called; the message tells its owner why."""


class Target(Struct, frozen=True):
    """The target that a URL names."""

    scheme: str
    host: str
    """A name, or an IP address without brackets."""
    port: int


class CallbackPolicy(Struct, frozen=True):
    """Hold what a deployment allows."""

    enabled: bool = True
    https_only: bool = False
    allow_private: bool = False
    """Whether loopback and private networks may be called; link-local and metadata addresses never are."""

    def target(self, url: str) -> Target:
        """Parse a URL and check it. Raises CallbackRefused."""
        if not self.enabled:
            raise CallbackRefused("this deployment delivers no webhooks (WEBHOOK_SECRET is not set)")
        parts = _split(url)
        if self.https_only and parts.scheme != "https":
            raise CallbackRefused("must be an https address")
        target = Target(parts.scheme, _host(parts), _port(parts))
        if (literal := _literal(target.host)) is not None:
            self.require(literal)
        elif not self.allow_private and _is_local_name(target.host):
            raise CallbackRefused("must not lead to this machine")
        return target

    def require(self, address: IPAddress) -> None:
        """Raises CallbackRefused for a forbidden IP address."""
        if not may_call(address, allow_private=self.allow_private):
            raise CallbackRefused("leads to an address that is not on the public Internet")


def may_call(address: IPAddress, *, allow_private: bool = False) -> bool:
    """Whether the address is on the public Internet, or in a private network if those are allowed."""
    if isinstance(address, IPv6Address):
        inner = _embedded(address)
        if inner is None:
            return _may_call_v6(address, allow_private=allow_private)
        address = inner
    if address in METADATA:
        return False
    if allow_private and any(address in network for network in PRIVATE):
        return True
    return not any(address in network for network in SPECIAL)


def _may_call_v6(address: IPv6Address, *, allow_private: bool) -> bool:
    if address.scope_id is not None or address in METADATA:
        return False
    if allow_private and any(address in network for network in PRIVATE_V6):
        return True
    return address in GLOBAL_UNICAST and not any(address in network for network in SPECIAL_V6)


def _embedded(address: IPv6Address) -> IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return IPv4Address(int(address) & 0xFFFF_FFFF) if address in NAT64 else None


def _split(url: str) -> SplitResult:
    """Split a URL that all parsers read in the same way. Raises CallbackRefused for others."""
    if len(url) > MAX_URL_LENGTH:
        raise CallbackRefused(f"must have at most {MAX_URL_LENGTH} characters")
    if not _PRINTABLE.fullmatch(url) or "\\" in url:
        raise CallbackRefused("must be printable ASCII without spaces (a name in other letters is written xn--…)")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise CallbackRefused("is not an address") from None
    if parts.scheme not in DEFAULT_PORTS or not url.lower().startswith(f"{parts.scheme}://"):
        raise CallbackRefused("must begin with https:// or http://")
    if "@" in parts.netloc:
        raise CallbackRefused("must not hold a user name or password")
    if "#" in url:
        raise CallbackRefused("must not have a fragment")
    return parts


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    literal = _literal(host)
    if ("[" in parts.netloc) != isinstance(literal, IPv6Address):
        raise CallbackRefused("must name a host")
    if literal is not None:
        return host
    last = host.rstrip(".").rpartition(".")[2]
    if not _NAME.fullmatch(host) or _NUMBER.fullmatch(last):  # such as 127.1 or 0x7f000001, which resolvers accept
        raise CallbackRefused("must name a host")
    return host


def _port(parts: SplitResult) -> int:
    try:
        port = DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
    except ValueError:
        raise CallbackRefused("has a port that is none") from None
    if port in DEFAULT_PORTS.values() or (port >= MIN_UNPRIVILEGED_PORT and port not in NON_HTTP_PORTS):
        return port
    raise CallbackRefused(f"must not use port {port}")


def _literal(host: str) -> IPAddress | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _is_local_name(host: str) -> bool:
    return host.rstrip(".").lower().rpartition(".")[2] == "localhost"


def shown(url: str) -> str:
    """Return scheme and host of a URL, without the parts that may hold a secret, for logs and operators."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
