"""The data server as the SDK connects to it: options, pools, and what an error of redis-py means to an operation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import redis
import redis.asyncio
import redis.asyncio.connection
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.exceptions import AuthenticationError, AuthorizationError, BusyLoadingError, RedisError, ResponseError
from redis.retry import Retry

from genqueue.errors import ServerUnavailable
from genqueue.settings import server_name

if TYPE_CHECKING:
    from genqueue.settings import Settings

#: Connections that commands and reads of streams may use at once, in one process or on one event loop.
COMMANDS: Final = 16
READS: Final = 4

#: What an operation ends with whose client is closed under it.
CLOSED: Final = "this client was closed while a job was followed"

#: The server is away or refuses (it loads, is out of memory, turned replica, wants a password): it may take us again.
AWAY: Final = (RedisError, OSError)

#: An error reply is an answer: what was refused was not done, and the server is there.
REFUSALS: Final = (ResponseError, BusyLoadingError, AuthenticationError, AuthorizationError)


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
    """Mixed into a blocking connection: what goes wrong while it connects is marked, and it can be waited for."""

    _sock: Any

    def connect_check_health(self, *args: Any, **kwargs: Any) -> Any:
        """Connect."""
        try:
            return super().connect_check_health(*args, **kwargs)  # type: ignore[misc]
        except Exception as error:
            mark_unsent(error)
            raise

    def fileno(self) -> int:
        """Return its socket's descriptor."""
        return int(self._sock.fileno())


class _AsyncMarking:
    """Mixed into an asyncio connection, to the same end."""

    async def connect_check_health(self, *args: Any, **kwargs: Any) -> Any:
        """Connect."""
        try:
            return await super().connect_check_health(*args, **kwargs)  # type: ignore[misc]
        except Exception as error:
            mark_unsent(error)
            raise


class DataServer:
    """Makes connections to the data server.

    Args:
        settings: where it is, and how patient to be.

    Attributes:
        name: host, port and database, without credentials.
        patience: seconds that connecting and one command may take together.
    """

    def __init__(self, settings: Settings) -> None:
        self.name = server_name(settings.data_url)
        self.patience = settings.connect_timeout + settings.command_timeout
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
        marking = type(f"Marking{plain.__name__}", (_Marking, plain), {})
        options = {**self._options, **given}
        return redis.ConnectionPool(connection_class=marking, retry=Retry(NoBackoff(), 0), **options)

    def _async_pool(self, **special: Any) -> redis.asyncio.ConnectionPool:
        given: dict[str, Any] = dict(redis.asyncio.connection.parse_url(self._url))
        plain = given.pop("connection_class", redis.asyncio.Connection)
        marking = type(f"Marking{plain.__name__}", (_AsyncMarking, plain), {})
        options = {**self._options, **given, **special}
        # Not the plain pool: before redis-py 8 that connects one at a time, and a mute server is waited for by turns.
        pool = redis.asyncio.BlockingConnectionPool
        return pool(connection_class=marking, retry=AsyncRetry(NoBackoff(), 0), **options)

    def unavailable(self, error: Exception) -> ServerUnavailable:
        """Return what an operation is told of an error."""
        return unavailable(self.name, error)
