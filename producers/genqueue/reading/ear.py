"""One reader's ear: its inbox, made when it is first needed, and how long nothing could be heard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genqueue.errors import ServerUnavailable
from genqueue.patience import Outage
from genqueue.reading.bells import Heard
from genqueue.steps import Hear, Listen, Pause

if TYPE_CHECKING:
    from genqueue.patience import Limit
    from genqueue.reading.bells import Inbox
    from genqueue.steps import Operation


class Ear:
    """Listens to channels through whatever happens to the connection.

    Args:
        channels: what to listen to.
        limit: how long to wait, and how long nothing may be heard.
        ends_only: leave out rings that end nobody's reading.

    Attributes:
        deaf: whether nothing can be heard at the moment.
    """

    def __init__(self, channels: tuple[str, ...], limit: Limit, *, ends_only: bool = False) -> None:
        self.deaf = False
        self._listen = Listen(channels, ends_only)
        self._outage = Outage(limit.reconnect)
        self._inbox: Inbox | None = None

    @property
    def open(self) -> bool:
        """Whether what is rung now is heard."""
        return self._inbox is not None and not self.deaf

    def hear(self, seconds: float) -> Operation[Heard]:
        """Return what came within some seconds; the first time, and after an outage, that is out of step.

        Raises:
            ServerUnavailable: nothing can be heard for longer than the patience allows.
        """
        if self._inbox is None:
            try:
                self._inbox = yield self._listen
            except ServerUnavailable as away:
                self.deaf = True
                yield Pause(min(seconds, self._outage.note(away)))
                return Heard(away=away)
        heard: Heard = yield Hear(self._inbox, min(seconds, self._outage.left) if self.deaf else seconds)
        if heard.over:
            self._inbox = None
            if heard.away is not None:
                raise heard.away
            return Heard()
        self.deaf = heard.away is not None
        if heard.away is None:
            self._outage.end()
        else:
            self._outage.note(heard.away)
        return heard

    def close(self) -> None:
        """Listen no more."""
        if self._inbox is not None:
            self._inbox.close()
