"""Check which addresses may be called on a client's behalf."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from service.webhooks.callbacks import CallbackPolicy, CallbackRefused, Target, may_call, shown

PUBLIC = [
    "1.1.1.1", "8.8.8.8", "93.184.216.34", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0",
    "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255", "169.253.255.255",
    "2606:4700:4700::1111", "2a00:1450:4001::1", "2001:4860:4860::8888", "::ffff:1.1.1.1", "64:ff9b::808:808",
]  # fmt: skip
PRIVATE = [
    "127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1",
    "::1", "fc00::1", "fd12:3456::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:7f00:1", "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
]  # fmt: skip
NEVER = [
    "0.1.2.3", "169.254.169.254", "169.254.0.1", "168.63.129.16", "100.100.100.200", "192.0.0.192",
    "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250",
    "240.0.0.1", "255.255.255.255", "0" + ".0" * 3, "::", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "ff02::1",
    "2001:db8::1",
    "2001::1", "2001:10::1", "2002:7f00:1::", "2002:a9fe:a9fe::", "3fff::1", "fec0::1", "100::1", "64:ff9b:1::1",
    "::ffff:169.254.169.254", "::ffff:0.0.0.0", "64:ff9b::a9fe:a9fe", "::127.0.0.1", "4000::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_be_called(address: str) -> None:
    """The public Internet, up to the very edges of the networks that are not it."""
    assert may_call(ip_address(address))


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_may_be_called_where_that_is_allowed(address: str) -> None:
    """The machine itself and private networks, however they are written, need the deployment's leave."""
    assert not may_call(ip_address(address))
    assert may_call(ip_address(address), allow_private=True)


@pytest.mark.parametrize("address", NEVER)
def test_special_addresses_are_never_called(address: str) -> None:
    """Clouds' metadata, link-local, multicast, unspecified, reserved and tunnelled addresses, whatever is allowed."""
    assert not may_call(ip_address(address))
    assert not may_call(ip_address(address), allow_private=True)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://example.org/hook?token=a%20b", Target("https", "example.org", 443)),
        ("http://example.org", Target("http", "example.org", 80)),
        ("HTTPS://Example.ORG:8443/x", Target("https", "example.org", 8443)),
        ("https://xn--bcher-kva.example./", Target("https", "xn--bcher-kva.example.", 443)),
        ("https://under_score.example/", Target("https", "under_score.example", 443)),
        ("https://1.1.1.1/", Target("https", "1.1.1.1", 443)),
        ("https://[2606:4700:4700::1111]:444/", None),
        ("https://[2606:4700:4700::1111]:4443/", Target("https", "2606:4700:4700::1111", 4443)),
        ("https://example.org:80/", Target("https", "example.org", 80)),
    ],
)
def test_an_address_is_read(url: str, target: Target | None) -> None:
    """Scheme, host and port, of ports at which HTTP is expected."""
    if target is None:
        with pytest.raises(CallbackRefused, match="must not use port 444"):
            CallbackPolicy().target(url)
        return
    assert CallbackPolicy().target(url) == target


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "printable ASCII"),
        ("example.org", "must begin with"),
        ("//example.org/", "must begin with"),
        ("ftp://example.org/", "must begin with"),
        ("file:///etc/passwd", "must begin with"),
        ("gopher://example.org/", "must begin with"),
        ("http:/example.org", "must begin with"),
        ("http:example.org", "must begin with"),
        ("https://", "must name a host"),
        ("https:///path", "must name a host"),
        ("https://ada:pw@example.org/", "user name"),
        ("https://example.org@127.0.0.1/", "user name"),
        ("https://@example.org/", "user name"),
        ("https://example.org/#part", "fragment"),
        ("https://example.org/a b", "printable ASCII"),
        ("https://example.org/\r\nHost: evil", "printable ASCII"),
        ("https://example.org\\@127.0.0.1/", "printable ASCII"),
        ("https://bücher.example/", "printable ASCII"),
        ("https://example.org/\u00e9", "printable ASCII"),
        ("https://[::1", "is not an address"),
        ("https://[v1.x]/", "is not an address|must name a host"),
        ("https://[127.0.0.1]/", "is not an address|must name a host"),
        ("https://example.org:99999/", "port that is none"),
        ("https://example.org:x/", "port that is none"),
        ("https://example.org:0/", "port 0"),
        ("https://example.org:22/", "port 22"),
        ("https://example.org:25/", "port 25"),
        ("https://example.org:6379/", "port 6379"),
        ("https://example.org:5432/", "port 5432"),
        ("https://-example.org/", "must name a host"),
        ("https://exa%6dple.org/", "must name a host"),
        ("https://a..b/", "must name a host"),
        ("https://" + "a" * 250 + ".org/", "must name a host"),
        ("https://example.org/" + "x" * 2048, "at most 2048"),
        ("http://127.0.0.1/", "not on the public Internet"),
        ("http://[::1]/", "not on the public Internet"),
        ("http://[::ffff:127.0.0.1]/", "not on the public Internet"),
        ("http://[fe80::1%25eth0]/", "not on the public Internet|must name a host|is not an address"),
        ("http://169.254.169.254/latest/meta-data", "not on the public Internet"),
        ("http://2130706433/", "must name a host"),
        ("http://0x7f000001/", "must name a host"),
        ("http://0x7f.1/", "must name a host"),
        ("http://127.1/", "must name a host"),
        ("http://0177.0.0.1/", "must name a host"),
        ("http://127.0.0.1./", "must name a host"),
        ("http://localhost/", "this machine"),
        ("http://LOCALHOST.:8080/", "this machine"),
        ("http://app.localhost/", "this machine"),
    ],
)
def test_an_address_that_is_not_called_is_refused_with_the_reason(url: str, why: str) -> None:
    """Whatever a parser may read in two ways, hides a host, or names what only this machine reaches."""
    with pytest.raises(CallbackRefused, match=why):
        CallbackPolicy().target(url)


def test_a_deployment_decides() -> None:
    """Production requires https, also where private networks are allowed; without a secret nothing is sent."""
    production = CallbackPolicy(https_only=True, allow_private=True)
    with pytest.raises(CallbackRefused, match="https"):
        production.target("http://10.0.0.1/")
    assert production.target("https://10.0.0.1/") == Target("https", "10.0.0.1", 443)
    assert production.target("https://localhost:8443/").host == "localhost"
    with pytest.raises(CallbackRefused, match="not on the public"):
        production.target("https://169.254.169.254/")
    with pytest.raises(CallbackRefused, match="WEBHOOK_SECRET"):
        CallbackPolicy(enabled=False).target("https://example.org/")


def test_logs_and_operators_see_no_secret_of_an_address() -> None:
    """A path or query may hold a secret; scheme, host and port are enough."""
    assert shown("https://example.org:8443/hooks/T0K3N?key=s3cret") == "https://example.org:8443"
