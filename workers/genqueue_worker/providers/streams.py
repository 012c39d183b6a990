"""One request and its answer on an HTTP/2 connection."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import httpx
from h2.errors import ErrorCodes

from genqueue_worker.providers.data_frames import Credit

if TYPE_CHECKING:
    from genqueue_worker.providers.http2 import Http2Connection

#: Header fields. Those that are secrets are of hpack's NeverIndexedHeaderTuple: no table of the connection keeps them.
Fields = Sequence[tuple[bytes, bytes]]

#: Bytes of one answer that may wait to be read. The 64 KB HTTP/2 begins with hold a stream to 640 KB/s at a round
#: trip of 100 ms.
STREAM_WINDOW = 1024 * 1024

#: Bytes read after which `h2` hears of it: for each chunk, that would cost as much as the chunk itself.
_STEP = 16384


class Unprocessed(httpx.RemoteProtocolError):
    """The server did nothing about the request, and says so: it may be sent again."""


class Http2Stream:
    """One request and its answer, for one reader.

    Each wait for the server is bounded by the connection's read timeout, which resets the stream.
    """

    def __init__(self, connection: "Http2Connection", stream_id: int, *, sent: bool) -> None:
        self.id = stream_id
        #: Whether `h2` sees no more of the answer than its begin and end. What has a length it holds against that.
        self.plain = False
        self._repaid = Credit(STREAM_WINDOW // 4)
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._sent = sent
        self._status = 0
        self._fields: Fields = ()
        self._chunks: deque[bytes] = deque()
        self._unread = 0
        self._ended = False
        self._error: httpx.TransportError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._waits_since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def send(self, body: bytes) -> None:
        """Send the request's body as flow control allows; stop early when the answer ends or the stream breaks.

        Raises:
            httpx.WriteTimeout: the server took nothing for as long as the read timeout.
        """
        rest = memoryview(body)
        while not (self._sent or self._ended or self._error):
            if (size := min(len(rest), self._connection.room(self.id))) <= 0:
                await self._more_room()
                continue
            self._sent = size == len(rest)
            self._connection.send(self.id, rest[:size], ends=self._sent)
            rest = rest[size:]

    async def head(self) -> tuple[int, Fields]:
        """Wait for the answer's head and return its status and header fields; raises httpx.TransportError."""
        while not self._status:
            await self._wait()
        return self._status, self._fields

    async def read(self) -> bytes:
        """Wait for more of the body and return what is there, nothing at its end; raises httpx.TransportError."""
        while not self._chunks:
            if self._ended:
                return b""
            await self._wait()
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        if self._unread >= _STEP:
            self._credit()
        return data

    def close(self) -> None:
        """Leave; an answer that has not ended is reset at the server."""
        self._stop_timer()
        if self._error is None and not (self._ended and self._sent):
            self._connection.forget(self.id, ErrorCodes.CANCEL)
        self._ended = True
        self._chunks.clear()
        self._credit()

    def begin(self, status: int, fields: Fields) -> None:
        """Take in the answer's head."""
        self._status, self._fields = status, fields
        self.plain = all(name != b"content-length" for name, _ in fields)
        self._wake()

    def feed(self, data: bytes, size: int) -> None:
        """Take in a piece of the body that was `size` bytes on the wire."""
        self._unread += size
        if self.plain:
            self._connection.spend(size, self._unread)
        if data:
            self._chunks.append(data)
            self._wake()

    def end(self) -> None:
        """Take in the end of the answer; a request that is still being sent goes no further."""
        self._ended = True
        self._connection.forget(self.id, None if self._sent else ErrorCodes.CANCEL)
        self._stop_timer()
        self._wake()
        self._connection.stir()

    def fail(self, error: httpx.TransportError) -> None:
        """Take in that no more will come; what came already is still read first."""
        self._error = error
        self._stop_timer()
        self._wake()
        self._connection.stir()

    def _credit(self) -> None:
        size, self._unread = self._unread, 0
        if size and self.plain:
            self._connection.repay(self.id, size, self._repaid)
        elif size:
            self._connection.credit(self.id, size)

    async def _more_room(self) -> None:
        try:
            async with asyncio.timeout(self._connection.read_timeout):
                await self._connection.moved()
        except TimeoutError:
            error = httpx.WriteTimeout(
                f"the server took nothing of the request for {self._connection.read_timeout:g} s"
            )
            self._connection.forget(self.id, ErrorCodes.CANCEL)
            self.fail(error)
            raise error from None

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiter = self._loop.create_future()
        self._waits_since = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(self._connection.read_timeout, self._look)
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _look(self) -> None:
        """End a wait that took too long. One timer a stream is looked at again, rather than one a wait made."""
        patience = self._connection.read_timeout
        waited = self._loop.time() - self._waits_since if self._waiter is not None else 0.0
        if waited < patience:
            self._timer = self._loop.call_later(patience - waited, self._look)
            return
        self._connection.forget(self.id, ErrorCodes.CANCEL)
        self.fail(httpx.ReadTimeout(f"nothing came for {patience:g} s"))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
