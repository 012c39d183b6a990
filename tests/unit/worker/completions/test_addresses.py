"""Where webhooks may go."""

import socket
from ipaddress import ip_network

import httpcore
import pytest

from genqueue_worker.completions import addresses
from genqueue_worker.completions.addresses import AddressRefused, AddressRule, CheckedBackend

REFUSED = """
    127.0.0.1 127.8.9.1 0.0.0.0 10.0.0.1 172.16.0.1 192.168.1.1 100.64.0.1 100.100.100.200
    169.254.169.254 192.0.0.192 168.63.129.16 224.0.0.1 239.1.2.3 240.0.0.1 255.255.255.255 198.18.0.1 203.0.113.1
    :: ::1 fe80::1 fe80::1%eth0 fd00:ec2::254 fc00::1 fec0::1 ff02::1 ff0e::1 2001:db8::1
    ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::7f00:1
    64:ff9b::7f00:1 64:ff9b:1::a00:1 2002:7f00:1:: 2001:0:1::1
"""
INTRANET = tuple(ip_network(text) for text in ("10.1.0.0/16", "fd00:1::/32"))


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07::1", "::ffff:93.184.215.14"])
def test_public_addresses_are_allowed(address):
    """Wherever the receiver is, and whichever way its address is written."""
    assert AddressRule().allows(address)
    assert not AddressRule(public=False).allows(address)


@pytest.mark.parametrize(
    "address",
    REFUSED.split(),
)
def test_what_is_not_public_is_refused(address):
    """Private, loopback, link-local with the clouds' metadata, shared, multicast, reserved, and what wraps them."""
    assert not AddressRule().allows(address)
    assert not AddressRule(INTRANET).allows(address)


@pytest.mark.parametrize(
    ("address", "allowed"),
    [("10.1.2.3", True), ("10.2.2.3", False), ("::ffff:10.1.2.3", True), ("fd00:1::5", True), ("fd00:2::5", False)],
)
def test_listed_networks_are_allowed(address, allowed):
    """For intranets; nothing else of what is private with them."""
    assert AddressRule(INTRANET).allows(address) == allowed
    assert AddressRule(INTRANET, public=False).allows(address) == allowed


def resolving(monkeypatch, *answers):
    """Have names resolve to one list of addresses after the other; returns how often that was asked."""
    asked = []

    def getaddrinfo(host, port, **_):
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (text, port)) for text in answers[len(asked) - 1]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


async def test_one_private_address_refuses_the_host(monkeypatch):
    """Whoever mixes it under public ones wants it to be chosen."""
    resolving(monkeypatch, ["93.184.215.14", "10.0.0.1"])
    with pytest.raises(AddressRefused, match=r"10\.0\.0\.1"):
        await CheckedBackend(AddressRule()).connect_tcp("example.com", 443, timeout=1)


async def test_the_checked_address_is_the_one_connected_to(monkeypatch):
    """A name that says something else the second time is asked once."""
    asked = resolving(monkeypatch, ["93.184.215.14"], ["127.0.0.1"])
    backend, connected = CheckedBackend(AddressRule()), []

    async def connect(host, port, *_):
        connected.append((host, port))
        raise httpcore.ConnectError("no network here")

    monkeypatch.setattr(backend._inner, "connect_tcp", connect)
    with pytest.raises(httpcore.ConnectError, match="no network"):
        await backend.connect_tcp("example.com", 443, timeout=1)
    assert (asked, connected) == (["example.com"], [("93.184.215.14", 443)])


async def test_the_second_address_is_tried_too(monkeypatch):
    """A receiver whose first address does not answer is reached by the next."""
    resolving(monkeypatch, ["93.184.215.14", "93.184.215.15"])
    backend = CheckedBackend(AddressRule())

    async def connect(host, *_):
        if host.endswith("14"):
            raise httpcore.ConnectTimeout("slow")
        return host

    monkeypatch.setattr(backend._inner, "connect_tcp", connect)
    assert await backend.connect_tcp("example.com", 443) == "93.184.215.15"


@pytest.mark.parametrize("host", ["a..b", "x" * 300, "does-not-exist.invalid"])
async def test_a_name_without_an_address_is_no_connection(host):
    """Whatever the resolver makes of it."""
    with pytest.raises(httpcore.ConnectError, match="has no address"):
        await addresses.resolve(host, 443)


async def test_sockets_of_this_machine_are_refused():
    """A URL names a host."""
    with pytest.raises(AddressRefused):
        await CheckedBackend(AddressRule()).connect_unix_socket("/var/run/docker.sock")
