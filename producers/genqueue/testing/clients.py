"""Clients without a server: the real ones, on a server in memory with a scripted provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genqueue.aio import AsyncClient
from genqueue.client import Client
from genqueue.settings import Settings
from genqueue.testing.connections import AsyncMemoryConnection, MemoryConnection
from genqueue.testing.server import MemoryServer

if TYPE_CHECKING:
    from genqueue.testing.recorded import Recorded
    from genqueue.testing.script import Answer


class _Scripted:
    """What a test does beside the code it tests.

    Attributes:
        server: the server in memory; hand it to another client, so that both see the same jobs.
    """

    server: MemoryServer

    @property
    def requests(self) -> list[Recorded]:
        """Every job that was submitted, oldest first."""
        return self.server.requests

    @property
    def default(self) -> Answer:
        """What is said when nothing is scripted: `DEFAULT_ANSWER`, until it is set."""
        return self.server.default

    @default.setter
    def default(self, answer: Answer) -> None:
        self.server.default = answer

    def script(self, *answers: Answer) -> None:
        """Say what the provider answers the next questions that it is asked, one answer each.

        An answer is a text, a list of texts and steps (thought, part, hold, lose, retry, fail, finish), or a function
        that is given the request (`Recorded`) and returns either. Questions answered from the cache, or joined to one
        that is being answered, take none.
        """
        self.server.script(*answers)

    def hold(self) -> None:
        """Let jobs stay queued until `release`."""
        self.server.hold()

    def release(self) -> None:
        """Let queued jobs run, and every script go on behind its hold."""
        self.server.release()

    def advance(self, seconds: float) -> None:
        """Move the server's clock: retries come up, deadlines pass, what was kept expires."""
        self.server.advance(seconds)


def _server_of(server: MemoryServer | None, settings: Settings | None, overrides: dict[str, Any]) -> MemoryServer:
    return MemoryServer(settings or Settings.load(**overrides)) if server is None else server


class MemoryClient(_Scripted, Client):
    """A blocking client without a server; the same jobs, operations and errors as `Client`.

    A request is answered while it is submitted, by what was scripted for it, so that no test waits.

    Args:
        settings: as for Client; where the servers are has no effect.
        server: a server to share with another client; its settings count.
        **overrides: single settings by name.
    """

    def __init__(
        self, settings: Settings | None = None, *, server: MemoryServer | None = None, **overrides: Any
    ) -> None:
        self.server = _server_of(server, settings, overrides)
        super().__init__(self.server.settings)

    def _connect(self, settings: Settings) -> MemoryConnection:
        del settings
        return MemoryConnection(self.server)


class AsyncMemoryClient(_Scripted, AsyncClient):
    """An asyncio client without a server; otherwise as `MemoryClient`."""

    def __init__(
        self, settings: Settings | None = None, *, server: MemoryServer | None = None, **overrides: Any
    ) -> None:
        self.server = _server_of(server, settings, overrides)
        super().__init__(self.server.settings)

    def _connect(self, settings: Settings) -> AsyncMemoryConnection:
        del settings
        return AsyncMemoryConnection(self.server)
