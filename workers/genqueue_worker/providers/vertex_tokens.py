"""The access token of a route, got anew before it is over, by a thread, so that requests do not wait for one."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from genqueue_worker.providers.errors import ProviderError

logger = logging.getLogger(__name__)

#: Seconds before its end at which a token is replaced; one that lives shorter than twice that, at half its life.
#: Google's metadata server has a new one from four minutes before the end.
MARGIN: Final = 225.0

#: Seconds after which a token is replaced at the earliest, however soon it is over.
SHORTEST: Final = 0.1

#: Seconds between two tries after a failed one: the first pause, and the longest.
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0

#: Seconds for which a refused token is not replaced again after one was: then it is not the token that is refused.
DOUBT_PAUSE: Final = 10.0


@dataclass(frozen=True, slots=True)
class Token:
    """What a request shows.

    Attributes:
        headers: of the request.
        lifetime: seconds for which they are good; None for ever.
        holder: whose token it is.
    """

    headers: Mapping[str, str] = field(repr=False)
    lifetime: float | None
    holder: str = ""


class Tokens:
    """Keep one token fresh from the first request for it until `aclose`. Belongs to one event loop.

    Args:
        sign_in: gets a token, blocking; raises ProviderError. Called by one thread at a time.
        name: the route's, for the log.
    """

    def __init__(self, sign_in: Callable[[], Token], name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._sign_in = sign_in
        self._name = name
        self._clock = clock
        self._token: Token | None = None
        self._ends = 0.0
        self._refreshing: asyncio.Task[Token | ProviderError] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._failure: ProviderError | None = None
        self._pause = FIRST_PAUSE
        self._retry_at = 0.0
        self._doubted_at = float("-inf")

    async def token(self) -> Token:
        """Return the token in force; only when there is none, wait for one.

        Raises:
            ProviderError: none is to be had.
        """
        if self._token is not None and self._clock() < self._ends:
            return self._token
        wait = self._retry_at - self._clock()
        if self._failure is not None and self._refreshing is None and wait > 0:
            raise _again(self._failure, wait)
        return await self._refresh()

    async def headers(self) -> Mapping[str, str]:
        """Return what a request shows; raises ProviderError as `token` does."""
        return (await self.token()).headers

    async def renewed(self, refused: Mapping[str, str], error: ProviderError) -> Mapping[str, str]:
        """Return other headers than those the API refused with `error`.

        Raises:
            ProviderError: `error`, when those are new ones already; another, when none are to be had.
        """
        token = self._token
        if token is None or token.headers is refused:
            if self._refreshing is None:
                if self._clock() - self._doubted_at < DOUBT_PAUSE:
                    raise error
                self._doubted_at = self._clock()
                logger.info("vertex.token_refused route=%s; getting another", self._name)
            token = await self._refresh()
        return token.headers

    async def aclose(self) -> None:
        """Get no more tokens."""
        if self._timer is not None:
            self._timer.cancel()
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait([self._refreshing])

    async def _refresh(self) -> Token:
        found = await asyncio.shield(self._begin())
        if isinstance(found, ProviderError):
            raise _again(found, None)
        return found

    def _begin(self) -> asyncio.Task[Token | ProviderError]:
        """Return the one refresh under way, begun here if there is none."""
        if self._refreshing is None:
            self._refreshing = asyncio.get_running_loop().create_task(self._run())
        return self._refreshing

    async def _run(self) -> Token | ProviderError:
        try:
            token = await in_thread(self._sign_in)
        except ProviderError as error:
            self._failed(error)
            return error
        else:
            self._got(token)
            return token
        finally:
            self._refreshing = None

    def _got(self, token: Token) -> None:
        self._token, self._failure, self._pause = token, None, FIRST_PAUSE
        if token.lifetime is None:
            self._ends = float("inf")
            return
        self._ends = self._clock() + token.lifetime
        self._begin_in(max(token.lifetime - min(MARGIN, token.lifetime / 2), SHORTEST))

    def _failed(self, error: ProviderError) -> None:
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE)
        self._failure, self._retry_at = error, self._clock() + pause
        self._begin_in(pause)
        logger.warning(
            "vertex.token_failed route=%s left=%.0f error=%s; trying again in %.0f s",
            self._name,
            max(self._ends - self._clock(), 0.0),
            error.message,
            pause,
        )

    def _begin_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._begin)


def _again(error: ProviderError, retry_after: float | None) -> ProviderError:
    """Return an error like one that others are given too."""
    return ProviderError(error.code, error.message, error.status, error.retryable, retry_after, error.doubts_key)


def in_thread(work: Callable[[], Token]) -> asyncio.Future[Token]:
    """Do blocking work in a thread of its own, which keeps neither the loop nor the process from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Token] = loop.create_future()

    def settle(token: Token | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        elif token is not None:
            future.set_result(token)

    def run() -> None:
        token, failure = None, None
        try:
            token = work()
        except Exception as error:  # noqa: BLE001 - whoever waits is told, whatever it is
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(settle, token, failure)

    threading.Thread(target=run, name="genqueue-token", daemon=True).start()
    return future
