"""Which inboxes hear which channel, and what a pub/sub connection must be told about it. No I/O; thread-safe."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from genqueue.reading.bells import Inbox

#: Channels that one command subscribes to, so that the first of many are heard while the last are still asked for.
BATCH: Final = 250


@dataclass(slots=True)
class _Channel:
    """A channel.

    Attributes:
        inboxes: who hears it.
        subscribed: whether the last command sent for it was SUBSCRIBE.
        unanswered: SUBSCRIBEs sent and not confirmed; only the last one's answer says that it is heard from now on.
    """

    inboxes: list[Inbox] = field(default_factory=list)
    subscribed: bool = False
    unanswered: int = 0


class Switchboard:
    """Fans one connection's messages out to inboxes.

    Attributes:
        quiet: whether nobody listens.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channels: dict[str, _Channel] = {}
        # Channels whose subscription is not what their inboxes want, in the order they came.
        self._changed: dict[str, None] = {}
        self._inboxes: set[Inbox] = set()

    @property
    def quiet(self) -> bool:
        """Whether nobody listens."""
        return not self._inboxes

    def add(self, inbox: Inbox) -> None:
        """Let an inbox hear its channels from their confirmation on."""
        with self._lock:
            self._inboxes.add(inbox)
            for name in inbox.channels:
                channel = self._channels.setdefault(name, _Channel())
                channel.inboxes.append(inbox)
                if channel.subscribed and not channel.unanswered:
                    inbox.confirm(name)
                elif not channel.subscribed:
                    self._changed[name] = None

    def remove(self, inbox: Inbox) -> None:
        """Let an inbox hear nothing more."""
        with self._lock:
            if inbox not in self._inboxes:
                return
            self._inboxes.discard(inbox)
            for name in inbox.channels:
                channel = self._channels[name]
                channel.inboxes.remove(inbox)
                if not channel.inboxes:
                    self._changed[name] = None

    def commands(self) -> Iterator[tuple[str, ...]]:
        """Yield the commands that make the subscriptions what the inboxes want."""
        with self._lock:
            changed, self._changed = self._changed, {}
            subscribe = [name for name in changed if self._wants(name)]
            unsubscribe = [name for name in changed if self._wants_no_more(name)]
            for name in subscribe:
                channel = self._channels[name]
                channel.subscribed = True
                channel.unanswered += 1
            for name in unsubscribe:
                channel = self._channels[name]
                channel.subscribed = False
                if not channel.unanswered:
                    del self._channels[name]
        yield from (("UNSUBSCRIBE", *batch) for batch in _batches(unsubscribe))
        yield from (("SUBSCRIBE", *batch) for batch in _batches(subscribe))

    def _wants(self, name: str) -> bool:
        channel = self._channels.get(name)
        return channel is not None and bool(channel.inboxes) and not channel.subscribed

    def _wants_no_more(self, name: str) -> bool:
        channel = self._channels.get(name)
        if channel is None or channel.inboxes:
            return False
        if not channel.subscribed and not channel.unanswered:
            del self._channels[name]
        return channel.subscribed

    def receive(self, message: Any) -> None:
        """Take a message of the connection: a ring, a confirmation, or the answer to a ping, which needs nothing."""
        if not isinstance(message, (list, tuple)) or len(message) != 3:
            return
        kind, raw, content = message
        if kind not in {b"message", b"subscribe"}:
            return
        name = raw.decode("utf-8", "replace")
        with self._lock:
            channel = self._channels.get(name)
            if channel is None:
                return
            if kind == b"message":
                for inbox in channel.inboxes:
                    inbox.put(name, content)
            else:
                self._confirm(name, channel)

    def _confirm(self, name: str, channel: _Channel) -> None:
        channel.unanswered = max(0, channel.unanswered - 1)
        if channel.unanswered:
            return
        if channel.subscribed:
            for inbox in channel.inboxes:
                inbox.confirm(name)
        elif not channel.inboxes:
            del self._channels[name]

    def lose(self, reason: Exception) -> None:
        """Note that the connection is lost: every inbox is out of step until the next one has subscribed again."""
        with self._lock:
            self._channels = {name: _Channel(found.inboxes) for name, found in self._channels.items() if found.inboxes}
            self._changed = dict.fromkeys(self._channels)
            for inbox in self._inboxes:
                inbox.lose(reason)

    def hang_up(self) -> bool:
        """Forget what was subscribed if nobody listens; returns whether that is so."""
        with self._lock:
            if self._inboxes:
                return False
            self._channels.clear()
            self._changed.clear()
            return True

    def end(self, reason: Exception) -> None:
        """Note that there will be no connection any more."""
        with self._lock:
            inboxes = list(self._inboxes)
        for inbox in inboxes:
            inbox.end(reason)


def _batches(names: Sequence[str]) -> Iterable[Sequence[str]]:
    return (names[start : start + BATCH] for start in range(0, len(names), BATCH))
