"""One connection that runs commands and hears channels, so that a ring is heard together with what caused it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import hiredis
from redis.exceptions import NoScriptError, ResponseError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genqueue.scripts import Call


def _error(message: str) -> Exception:
    return NoScriptError(message) if message.startswith("NOSCRIPT") else ResponseError(message)


def _packed(parts: tuple[str | bytes | int, ...]) -> bytes:
    packed: bytes = hiredis.pack_command(parts)  # type: ignore[arg-type]  # its stub says a tuple of one
    return packed


class Link:
    """A RESP3 connection; a round makes thousands of calls, so nothing stands between it and the socket.

    Attributes:
        heard: (channel, payload) of messages that came in since they were last taken, oldest first.
    """

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._socket = socket.create_connection((address.hostname, address.port), timeout=10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader(replyError=_error)
        self.heard: list[tuple[bytes, bytes]] = []
        self.command("HELLO", 3)
        self.command("SELECT", int(address.path.lstrip("/") or 0))

    def command(self, *parts: str | bytes | int) -> Any:
        """Return the reply to one command; raises the server's error."""
        return self.commands([parts])[0]

    def commands(self, batch: Sequence[tuple[str | bytes | int, ...]]) -> list[Any]:
        """Return the replies to several commands, sent at once; raises the server's first error."""
        self._socket.sendall(b"".join(map(_packed, batch)))
        replies: list[Any] = []
        while len(replies) < len(batch) or self._reader.has_data():
            reply = self._next()
            if isinstance(reply, hiredis.PushNotification):
                self._hear(reply)
            else:
                replies.append(reply)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    def run(self, call: Call) -> Any:
        """Return the reply to a ledger call; a script the server does not know is loaded first."""
        try:
            return self.command(*call.command)
        except NoScriptError:
            self.command("SCRIPT", "LOAD", call.script.source)
            return self.command(*call.command)

    def listen(self, pattern: str) -> None:
        """Hear every channel that matches from now on; the confirmation is a push like the messages are."""
        self._socket.sendall(_packed(("PSUBSCRIBE", pattern)))
        self._next()

    def take_heard(self) -> list[tuple[bytes, bytes]]:
        """Return what was heard and forget it."""
        heard, self.heard = self.heard, []
        return heard

    def _next(self) -> Any:
        while (reply := self._reader.gets()) is False:
            self._reader.feed(self._socket.recv(262_144))
        return reply

    def _hear(self, push: Any) -> None:
        _, _, channel, payload = push
        self.heard.append((channel, payload))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
