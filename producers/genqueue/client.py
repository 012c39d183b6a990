"""The blocking client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, Unpack

from genqueue import jobs
from genqueue.connections import BlockingConnection
from genqueue.order import SubmitOptions, make_order
from genqueue.patience import BRIEF, Patience
from genqueue.settings import Settings
from genqueue.tail import Reference, position, tail

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genqueue.events import Event
    from genqueue.result import Result, Status


class Client:
    """Submits jobs and reads their streams with blocking calls; usable from several threads.

    Connects on first use. Close it, or use it as a context manager.

    Args:
        settings: where the servers are; from the environment when None.
        **overrides: single settings by name, e.g. data_url="redis://...".

    Raises:
        SettingsError: a setting is wrong; the message lists all that are.
    """

    def __init__(self, settings: Settings | None = None, **overrides: Any) -> None:
        self._connection = BlockingConnection(settings or Settings.load(**overrides))

    def submit(self, contents: object, *, model: str, **options: Unpack[SubmitOptions]) -> Job:
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
        reference = connection.run(jobs.submit(order, connection.deployment(), connection.settings))
        return Job(connection, reference.job_id, reference)

    def job(self, job_id: str) -> Job:
        """Return a handle for a job submitted earlier, anywhere; raises InvalidRequest for what is no id."""
        self._connection.keys.partition_of_id(job_id)
        return Job(self._connection, job_id, None)

    def close(self) -> None:
        """Close every connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Job:
    """One submission; made by `Client.submit` and `Client.job`.

    Attributes:
        id: the job's id; keep it to come back later.
    """

    def __init__(self, connection: BlockingConnection, job_id: str, reference: Reference | None) -> None:
        self.id = job_id
        self._connection = connection
        self._found = reference

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    @property
    def stream_key(self) -> str:
        """Key of the Redis stream that holds the job's events."""
        return self._reference().stream

    def tail(self, after: Event | str | None = None, *, timeout: float | None = None) -> Iterator[Event]:
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
        return self._connection.follow(tail(self._reference(patience), after, patience))

    def result(self, timeout: float | None = None) -> Result:
        """Wait for the end and return the whole answer.

        Raises:
            JobFailed, JobCancelled, JobExpired: it ended without an answer.
            WaitTimeout: `timeout` seconds passed; the job goes on.
        """
        patience = self._patience(timeout)
        return self._connection.run(jobs.result(self._reference(patience), patience))

    def text(self, timeout: float | None = None) -> str:
        """Wait for the end and return the answer's text; raises as `result`."""
        return self.result(timeout).text

    def status(self) -> Status:
        """Return where the job is."""
        return self._connection.run(jobs.status(self._reference()))

    def cancel(self) -> bool:
        """End the job for this caller; returns False when it had ended before."""
        return self._connection.run(jobs.cancel(self._reference(), self._connection.keys))

    def _reference(self, patience: Patience = BRIEF) -> Reference:
        if self._found is None:
            self._found = self._connection.run(jobs.look_up(self._connection.keys, self.id, patience))
        return self._found

    def _patience(self, timeout: float | None) -> Patience:
        return Patience(timeout, self._connection.settings.reconnect_timeout)
