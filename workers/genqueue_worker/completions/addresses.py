"""Which addresses a webhook may go to, and connecting to an address that was checked and no other."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final, TypeAlias

import httpcore

if TYPE_CHECKING:
    from collections.abc import Iterable
    from concurrent.futures import Executor

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

#: Not private by their numbers, or only to some versions of Python, but no receiver of webhooks: IETF's own addresses,
#: IPv6 that carries an IPv4 address to somewhere else (NAT64, 6to4, Teredo), and Azure's services inside a machine.
_NEVER: Final[tuple[Network, ...]] = tuple(
    ip_network(text)
    for text in ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "64:ff9b::/96", "2002::/16", "2001::/23")
)
#: All of IPv6 that is assigned to anybody on the internet.
_ASSIGNED: Final = IPv6Network("2000::/3")


class AddressRefused(httpcore.ConnectError):
    """A host resolves to an address that no webhook goes to."""


@dataclass(frozen=True, slots=True)
class AddressRule:
    """What may be connected to.

    Attributes:
        listed: networks that are allowed whatever they are.
        public: whether every public address is allowed too.
    """

    listed: tuple[Network, ...] = ()
    public: bool = True

    def allows(self, text: str) -> bool:
        """Return whether an address may be connected to."""
        address = _plain(ip_address(text))
        if any(address in network for network in self.listed if network.version == address.version):
            return True
        never = any(address in network for network in _NEVER if network.version == address.version)
        assigned = isinstance(address, IPv4Address) or address in _ASSIGNED
        return self.public and assigned and address.is_global and not address.is_multicast and not never


def _plain(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one only wraps."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


async def resolve(host: str, port: int, threads: Executor | None = None) -> list[str]:
    """Return the addresses of a host, each once, asked for in a thread; raises httpcore.ConnectError without one."""
    asking = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    try:
        found = await asyncio.get_running_loop().run_in_executor(threads, asking)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(f"{host} has no address: {error}") from error
    return list(dict.fromkeys(str(item[4][0]) for item in found))


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to addresses that a rule allows: looked up once, and the one checked is the one connected to.

    Args:
        threads: in which names are looked up; the loop's own when None.
    """

    def __init__(self, rule: AddressRule, threads: Executor | None = None) -> None:
        self._rule = rule
        self._threads = threads
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that answers; raises AddressRefused when any of them is not allowed."""
        addresses = await resolve(host, port, self._threads)
        for address in addresses:
            if not self._rule.allows(address):
                raise AddressRefused(f"{host} is at {address}, where no webhook goes; see GENQUEUE_WEBHOOK_NETWORKS")
        error: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failed:
                error = failed
        raise error

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ARG002 - the interface
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002 - the interface
    ) -> httpcore.AsyncNetworkStream:
        """Refuse."""
        raise AddressRefused(f"{path} is no host")

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self._inner.sleep(seconds)
