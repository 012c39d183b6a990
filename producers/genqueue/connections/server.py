"""The data server as the SDK connects to it: options, pools, and what an error of redis-py means to an operation."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

import redis
import redis.asyncio
import redis.asyncio.connection
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    MasterDownError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.retry import Retry

from genqueue.errors import ServerUnavailable
from genqueue.settings import server_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genqueue.settings import Settings

log = logging.getLogger("genqueue.server")

#: Connections that commands and reads of streams may use at once, in one process or on one event loop.
COMMANDS: Final = 16
READS: Final = 4

#: What an operation ends with whose client is closed under it.
CLOSED: Final = "this client was closed while it was in use; whoever asks again has it connect anew"

#: The server is away or refuses (it loads, is out of memory, turned replica, wants a password): it may take us again.
AWAY: Final = (RedisError, OSError)

#: An error reply is an answer: what was refused was not done, and the server is there.
REFUSALS: Final = (ResponseError, BusyLoadingError, AuthenticationError, AuthorizationError)

#: What a replica answers: its address may lead elsewhere by now, but who is connected stays with it.
_DEMOTED: Final = (ReadOnlyError, MasterDownError)

#: How a server refuses a connection too many; redis-py has no error of its own for that.
_TOO_MANY: Final = "max number of clients reached"

#: Seconds between two questions after its role, by which those who only read find out that a server is a replica now.
ROLE_CHECK: Final = 5.0

#: Asks for facts about the server, its role among them; whoever may connect may ask.
HELLO: Final = ("HELLO",)


#: What uvloop says, in a RuntimeError that redis-py passes on, to whom writes to a connection the server has closed.
_CLOSED_HANDLE: Final = "the handler is closed"


def connection_options(settings: Settings) -> dict[str, Any]:
    """Return keyword arguments for a redis client's from_url; retries are ours: redis-py's multiply the timeouts."""
    options: dict[str, Any] = {
        "protocol": 2,
        "socket_connect_timeout": settings.connect_timeout,
        "socket_timeout": settings.command_timeout,
    }
    if not settings.data_url.startswith("unix:"):  # whose connections do not know the option
        options["socket_keepalive"] = True
    return options


def mark_unsent(error: Exception) -> None:
    """Note on an error that nothing can have been sent when it came."""
    error.__dict__["unsent"] = True


def unavailable(server: str, error: Exception) -> ServerUnavailable:
    """Return what an operation is told when the server of that name is away or refuses."""
    sent = not (isinstance(error, REFUSALS) or "unsent" in error.__dict__)
    away = ServerUnavailable(server, error, sent=sent)
    away.__cause__ = error
    return away


class _Marking:
    """Mixed into a blocking connection: what goes wrong while it connects is marked, and it can be waited for.

    Taken out of its pool after the server turned out to be a replica, it connects anew.
    """

    _sock: Any
    _server: DataServer
    era = 0

    def connect_check_health(self, *args: Any, **kwargs: Any) -> Any:
        """Connect."""
        if self.era != self._server.era:
            self.disconnect()  # type: ignore[attr-defined]
            self.era = self._server.era
        try:
            return super().connect_check_health(*args, **kwargs)  # type: ignore[misc]
        except Exception as error:
            mark_unsent(error)
            raise

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """Return the next reply."""
        try:
            return super().read_response(*args, **kwargs)  # type: ignore[misc]
        except RedisError as error:
            self._server.heed(error, self.era)
            raise

    def fileno(self) -> int:
        """Return its socket's descriptor."""
        return int(self._sock.fileno())


class Sending:
    """Mixed into an asyncio connection: under uvloop too, one that was closed while it was written to is lost."""

    async def send_packed_command(self, *args: Any, **kwargs: Any) -> None:
        """Send commands."""
        try:
            await super().send_packed_command(*args, **kwargs)  # type: ignore[misc]
        except RuntimeError as error:
            if _CLOSED_HANDLE not in str(error):
                raise
            raise redis.ConnectionError(f"the connection was lost while it was written to ({error})") from error


class _AsyncMarking(Sending):
    """Mixed into an asyncio connection, to the same end as into a blocking one."""

    _server: DataServer
    era = 0

    async def connect_check_health(self, *args: Any, **kwargs: Any) -> Any:
        """Connect."""
        if self.era != self._server.era:
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]
            self.era = self._server.era
        try:
            return await super().connect_check_health(*args, **kwargs)  # type: ignore[misc]
        except Exception as error:
            mark_unsent(error)
            raise

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """Return the next reply."""
        try:
            return await super().read_response(*args, **kwargs)  # type: ignore[misc]
        except RedisError as error:
            self._server.heed(error, self.era)
            raise


class DataServer:
    """Makes connections to the data server.

    Args:
        settings: where it is, and how patient to be.

    Attributes:
        name: host, port and database, without credentials.
        patience: seconds that connecting and one command may take together.
        era: how often the server turned out to be a replica; connections of an earlier era connect anew.
        strange: whether the server did not know a script: it may be another, and an empty one. Reset by who looks.
    """

    def __init__(self, settings: Settings) -> None:
        self.name = server_name(settings.data_url)
        self.patience = settings.connect_timeout + settings.command_timeout
        self.era = 0
        self.strange = False
        self._role_at = time.monotonic() + ROLE_CHECK
        self._url = settings.data_url
        self._options = connection_options(settings)

    def make_client(self) -> redis.Redis:
        """Return a blocking client."""
        return redis.Redis.from_pool(self._pool())

    def make_async_client(self) -> redis.asyncio.Redis:
        """Return an asyncio client."""
        return redis.asyncio.Redis.from_pool(self._async_pool())

    def make_connection(self) -> Any:
        """Return a blocking connection that no pool takes back."""
        return self._pool().make_connection()

    def make_async_connection(self) -> Any:
        """Return an asyncio connection that no pool takes back; it waits for a message as long as that takes."""
        return self._async_pool(socket_timeout=None).make_connection()

    def _pool(self) -> redis.ConnectionPool:
        given = parse_url(self._url)
        plain = given.pop("connection_class", redis.Connection)
        marking = type(f"Marking{plain.__name__}", (_Marking, plain), {"_server": self})
        options = {**self._options, **given}
        return redis.ConnectionPool(connection_class=marking, retry=Retry(NoBackoff(), 0), **options)

    def _async_pool(self, **special: Any) -> redis.asyncio.ConnectionPool:
        given: dict[str, Any] = dict(redis.asyncio.connection.parse_url(self._url))
        plain = given.pop("connection_class", redis.asyncio.Connection)
        marking = type(f"Marking{plain.__name__}", (_AsyncMarking, plain), {"_server": self})
        options = {**self._options, **given, **special}
        # Not the plain pool: before redis-py 8 that connects one at a time, and a mute server is waited for by turns.
        pool = redis.asyncio.BlockingConnectionPool
        return pool(connection_class=marking, retry=AsyncRetry(NoBackoff(), 0), **options)

    def heed(self, error: RedisError, era: int) -> None:
        """Take what an error reply to a connection of an era says about the server."""
        if isinstance(error, NoScriptError):
            self.strange = True
        elif isinstance(error, _DEMOTED):
            self._leave(era, error)
        elif _TOO_MANY in str(error):
            mark_unsent(error)

    def _leave(self, era: int, reason: Exception) -> None:
        """Have every connection of an era connect anew; only the first who finds out counts."""
        if era == self.era:
            self.era += 1
            log.warning("server.demoted server=%s error=%s; connecting anew", self.name, reason)

    def check(self, connection: Any) -> None:
        """Raise ReadOnlyError for a connection that no pool looks after when it is of an earlier era."""
        if connection.era != self.era:
            raise ReadOnlyError("the server was made a replica")

    @property
    def role_due(self) -> bool:
        """Whether to ask for the server's role now; once for all who read."""
        now = time.monotonic()
        due = now >= self._role_at
        if due:
            self._role_at = now + ROLE_CHECK
        return due

    def check_role(self, facts: Sequence[Any]) -> None:
        """Raise ReadOnlyError when the reply to HELLO is a replica's: what it has may be old, and it tells nobody."""
        named = dict(zip(facts[::2], facts[1::2], strict=False))
        if named.get(b"role") in {b"replica", b"slave"}:
            replica = ReadOnlyError("the server is a replica")
            self._leave(self.era, replica)
            raise replica

    def unavailable(self, error: Exception) -> ServerUnavailable:
        """Return what an operation is told of an error."""
        return unavailable(self.name, error)
