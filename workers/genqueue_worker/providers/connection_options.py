"""How one connection to a provider is made and kept."""

from dataclasses import dataclass
from typing import Literal

#: What may be spoken to a server; see `ConnectionOptions`.
Versions = Literal["h2", "any", "http/1.1"]

#: Whose HTTP/2 it is: our own on `h2`, or httpcore's.
Transport = Literal["h2", "httpcore"]


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """Say how one connection is made and kept; times in seconds.

    `read_timeout` bounds each wait for the server: for the answer's head, and between two chunks. There is no
    bound on the whole. A server silent for `ping_interval` is sent a ping, and when not a byte came within
    `ping_timeout` the connection ends. `ca_pem` is trusted besides the system's roots, `local_address` is the
    source address. `versions` says what is spoken: HTTP/2 or nothing ("h2"), HTTP/2 and, only where the server does
    not offer that or TLS asks nobody, HTTP/1.1 ("any"), or HTTP/1.1 ("http/1.1"). `transport` says whose HTTP/2.
    """

    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    ping_interval: float = 20.0
    ping_timeout: float = 10.0
    ca_pem: bytes | None = None
    local_address: str | None = None
    versions: Versions = "h2"
    transport: Transport = "h2"
