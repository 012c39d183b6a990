"""One request and the way to answer it, whatever the HTTP version."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import parse_qsl, unquote

if TYPE_CHECKING:
    from collections.abc import Iterable

    from genqueue_lab.emulator.stats import RequestRecord

#: Bytes of a request body the API takes; more is answered with an error.
MAX_BODY = 20 * 1024 * 1024

Headers = list[tuple[str, str]]

#: How a TCP connection ends without a word of TLS or HTTP: in order, or by a reset.
Ending = Literal["fin", "rst"]


@dataclass(slots=True)
class Request:
    """One request as it arrives; `received` is the monotonic time at which its last byte came in."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytearray = field(default_factory=bytearray)
    oversized: bool = False
    received: float = 0.0

    @classmethod
    def from_headers(cls, method: str, target: str, headers: Iterable[tuple[bytes, bytes]]) -> Request:
        """Build a request from raw header fields; of a repeated field the last one counts."""
        decoded = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}
        return cls(method, target, decoded)

    @property
    def path(self) -> str:
        """The decoded path, without the query."""
        return unquote(self.target.partition("?")[0])

    @property
    def host(self) -> str:
        """The host and port that the client asked for."""
        return self.headers.get(":authority") or self.headers.get("host", "localhost")

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters; of a repeated one the last counts."""
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))

    def feed(self, data: bytes | bytearray) -> None:
        """Add a piece of the body, or drop it when the body has become too large."""
        if len(self.body) + len(data) > MAX_BODY:
            self.oversized = True
            self.body.clear()
        if not self.oversized:
            self.body += data

    def complete(self) -> None:
        """Note that the whole request is here."""
        self.received = time.monotonic()


class Exchange(Protocol):
    """A request to answer: `start` once, `send` as often as needed, `end` once."""

    request: Request
    record: RequestRecord

    def start(self, status: int, headers: Headers) -> None:
        """Send the status and the header fields."""

    async def send(self, data: bytes) -> None:
        """Send a piece of the body; waits while the client's flow control leaves no room."""

    async def end(self) -> None:
        """Send the end of the body."""

    def reset(self, code: str) -> None:
        """Break off this answer: RST_STREAM with an HTTP/2 error code by name; a reset connection on HTTP/1.1."""

    def disconnect(self, ending: Ending) -> None:
        """Drop the connection with all that is under way on it."""

    def go_away(self, code: str, last_stream: int | None) -> None:
        """Send GOAWAY; streams up to the last one go on, and the connection is closed when they have ended.

        Without `last_stream` every stream that is open goes on. HTTP/1.1 closes the connection after this answer.
        """

    def hang_up(self) -> None:
        """Flush what was written and close the connection; all that is under way on it is cut off."""

    @property
    def stream_id(self) -> int | None:
        """The number of the HTTP/2 stream; None on HTTP/1.1."""


class Service(Protocol):
    """What answers requests."""

    async def answer(self, exchange: Exchange) -> None:
        """Answer one request; cancelled when the client leaves."""
