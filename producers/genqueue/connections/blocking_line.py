"""The one pub/sub connection of a process's blocking client, and the thread that hears it."""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import TimeoutError as RedisTimeoutError

from genqueue.connections.pulse import BackOff, Pulse
from genqueue.connections.server import AWAY, CLOSED
from genqueue.errors import InfrastructureError
from genqueue.reading.bells import Inbox
from genqueue.reading.switchboard import Switchboard

if TYPE_CHECKING:
    from genqueue.connections.server import DataServer

log = logging.getLogger("genqueue.line")

#: Messages handed out before new listeners are looked for.
MOST_AT_ONCE: Final = 500


class BlockingLine:
    """Hears every channel that anybody in the process listens to; the thread starts with the first.

    Args:
        server: where to connect.
    """

    def __init__(self, server: DataServer) -> None:
        self._server = server
        self._board = Switchboard()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        # Set while there is something to do for a thread that has no connection.
        self._wanted = threading.Event()
        # Written to, to wake a thread that waits for its connection.
        self._bell: socket.socket | None = None

    def listen(self, channels: tuple[str, ...], *, ends_only: bool = False) -> Inbox:
        """Return an inbox once its channels are heard; raises ServerUnavailable when they cannot be."""
        inbox = Inbox(channels, threading.Event(), ends_only=ends_only, leave=self._leave)
        self._board.add(inbox)
        try:
            self._start()
            self._wake()
            self._await(inbox)
        except BaseException:
            inbox.close()
            raise
        return inbox

    def _await(self, inbox: Inbox) -> None:
        give_up = time.monotonic() + self._server.patience
        while not inbox.confirmed:
            if inbox.away is not None:
                raise inbox.away
            if not inbox.signal.wait(max(0.0, give_up - time.monotonic())):
                raise self._server.unavailable(RedisTimeoutError("no answer to SUBSCRIBE"))
            inbox.signal.clear()
        inbox.signal.set()  # for who hears: there is a stream to read

    def _leave(self, inbox: Inbox) -> None:
        self._board.remove(inbox)
        self._wake()

    def _start(self) -> None:
        with self._lock:
            if self._closed:
                raise InfrastructureError(CLOSED)
            if self._thread is None:
                self._thread = threading.Thread(target=self._live, name="genqueue-line", daemon=True)
                self._thread.start()

    def _wake(self) -> None:
        self._wanted.set()
        bell = self._bell
        if bell is not None:
            with contextlib.suppress(OSError):  # it is full: the thread will wake; or closed: it is awake
                bell.send(b"!")

    def close(self) -> None:
        """Disconnect; whoever still listens is told that it is over."""
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
        self._board.end(InfrastructureError(CLOSED))
        self._wake()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _live(self) -> None:
        back_off = BackOff()
        while not self._closed:
            self._wanted.wait()
            self._wanted.clear()
            if self._board.quiet:
                continue
            connection = self._server.make_connection()
            try:
                self._hold(connection, back_off)
            except AWAY as error:
                pause = back_off.next()
                log.info("line.lost server=%s error=%s retry=%.2f", self._server.name, error, pause)
                self._board.lose(self._server.unavailable(error))
                self._rest(pause)
            finally:
                connection.disconnect()

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._closed and (left := until - time.monotonic()) > 0:
            self._wanted.wait(left)
            self._wanted.clear()
        self._wanted.set()

    def _hold(self, connection: Any, back_off: BackOff) -> None:
        """Connect and hear until nobody listens any more; raises what ends the connection."""
        connection.connect()
        ours, theirs = socket.socketpair()
        with ours, theirs, selectors.DefaultSelector() as selector:
            ours.settimeout(0)
            theirs.settimeout(0)
            selector.register(connection.fileno(), selectors.EVENT_READ)
            selector.register(theirs, selectors.EVENT_READ)
            self._bell = ours
            try:
                self._hear(connection, selector, theirs, back_off)
            finally:
                self._bell = None

    def _hear(self, connection: Any, selector: selectors.BaseSelector, bell: socket.socket, back_off: BackOff) -> None:
        pulse = Pulse(time.monotonic())
        while not self._closed:
            for command in self._board.commands():
                connection.send_command(*command)
            self._server.check(connection)
            now = time.monotonic()
            if self._receive(connection):
                pulse.hear(now)
                back_off.reset()
            if not self._board.quiet:
                pulse.need(now)
            elif pulse.idle(now) and self._board.hang_up():
                return
            if pulse.beat(now):
                connection.send_command("PING")
            if any(key.fileobj is bell for key, _ in selector.select(pulse.left(now))):
                bell.recv(4096)

    def _receive(self, connection: Any) -> bool:
        """Hand out what has come, up to a bound, for new listeners wait meanwhile; returns whether anything came."""
        for count in range(MOST_AT_ONCE):
            if not connection.can_read(timeout=0):
                return count > 0
            self._board.receive(connection.read_response())
        self._wake()
        return True
