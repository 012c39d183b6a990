"""The asyncio client: the same names as the blocking one, with `await` and `async for`."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Self, Unpack

from genqueue import jobs
from genqueue.connections import AsyncConnection
from genqueue.order import SubmitOptions, make_order
from genqueue.patience import BRIEF, Patience
from genqueue.settings import Settings
from genqueue.tail import Reference, position, tail

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from genqueue.events import Event
    from genqueue.result import Result, Status


class AsyncClient:
    """Submits jobs and reads their streams on an event loop; one client per loop.

    Connects on first use. Close it, or use it as an async context manager.

    Args:
        settings: where the servers are; from the environment when None.
        **overrides: single settings by name, e.g. data_url="redis://...".

    Raises:
        SettingsError: a setting is wrong; the message lists all that are.
    """

    def __init__(self, settings: Settings | None = None, **overrides: Any) -> None:
        self._connection = AsyncConnection(settings or Settings.load(**overrides))

    async def submit(self, contents: object, *, model: str, **options: Unpack[SubmitOptions]) -> AsyncJob:
        """Queue a request and return its job once it is accepted.

        Args:
            contents: a text, a list of texts and parts, or Gemini-shaped contents.
            model: the provider's model name.
            **options: lane, tenant, deadline (seconds from now), cache, share; system_instruction; and every field
                of the generation config, as a keyword or in `config`.

        Raises:
            InvalidRequest: an argument is wrong; nothing was queued.
            ServerUnavailable: the data server does not answer; after less than 3 s.
        """
        order, connection = make_order(contents, model, options), self._connection
        deployment = await connection.deployment()
        reference = await connection.run(jobs.submit(order, deployment, connection.settings))
        return AsyncJob(connection, reference.job_id, reference)

    def job(self, job_id: str) -> AsyncJob:
        """Return a handle for a job submitted earlier, anywhere; raises InvalidRequest for what is no id."""
        self._connection.keys.partition_of_id(job_id)
        return AsyncJob(self._connection, job_id, None)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._connection.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class AsyncJob:
    """One submission; made by `AsyncClient.submit` and `AsyncClient.job`.

    Attributes:
        id: the job's id; keep it to come back later.
    """

    def __init__(self, connection: AsyncConnection, job_id: str, reference: Reference | None) -> None:
        self.id = job_id
        self._connection = connection
        self._found = reference

    def __repr__(self) -> str:
        return f"AsyncJob({self.id!r})"

    async def stream_key(self) -> str:
        """Return the key of the Redis stream that holds the job's events."""
        return (await self._reference()).stream

    async def tail(
        self, after: Event | str | None = None, *, timeout: float | None = None
    ) -> AsyncGenerator[Event, None]:
        """Yield the job's events as they come, from the first or behind `after`, to its last.

        Args:
            after: an event, or its id, to resume behind.
            timeout: seconds until WaitTimeout; None waits for the end.

        Raises:
            StreamGone: the stream has expired.
            JobNotFound: nobody knows the job.
        """
        position(after)
        patience = self._patience(timeout)
        events = self._connection.follow(tail(await self._reference(patience), after, patience))
        async with aclosing(events):
            async for event in events:
                yield event

    async def result(self, timeout: float | None = None) -> Result:
        """Wait for the end and return the whole answer.

        Raises:
            JobFailed, JobCancelled, JobExpired: it ended without an answer.
            WaitTimeout: `timeout` seconds passed; the job goes on.
        """
        patience = self._patience(timeout)
        return await self._connection.run(jobs.result(await self._reference(patience), patience))

    async def text(self, timeout: float | None = None) -> str:
        """Wait for the end and return the answer's text; raises as `result`."""
        return (await self.result(timeout)).text

    async def status(self) -> Status:
        """Return where the job is."""
        return await self._connection.run(jobs.status(await self._reference()))

    async def cancel(self) -> bool:
        """End the job for this caller; returns False when it had ended before."""
        return await self._connection.run(jobs.cancel(await self._reference(), self._connection.keys))

    async def _reference(self, patience: Patience = BRIEF) -> Reference:
        if self._found is None:
            self._found = await self._connection.run(jobs.look_up(self._connection.keys, self.id, patience))
        return self._found

    def _patience(self, timeout: float | None) -> Patience:
        return Patience(timeout, self._connection.settings.reconnect_timeout)
