"""The blocking client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, Unpack

from genqueue import dead, jobs, purge, replay, submission, whereabouts
from genqueue.connections import BlockingConnection
from genqueue.errors import InvalidRequest
from genqueue.finished import Feed, consumer_of
from genqueue.intake import Accepted, Candidate, Intake
from genqueue.on_commit import on_commit
from genqueue.order import ReplayOptions, SubmitOptions, make_order
from genqueue.patience import BRIEF, Patience, lasting
from genqueue.reading.place import position
from genqueue.reading.tail import Reference, tail
from genqueue.request.shape import shape_of
from genqueue.result import with_parsed
from genqueue.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping

    from genqueue.dead import DeadLetter
    from genqueue.errors import GenqueueError
    from genqueue.events import Event
    from genqueue.finished import Finished
    from genqueue.ledger import Start
    from genqueue.purge import Purged
    from genqueue.result import Result, Status


class Client:
    """Submits jobs and reads their streams with blocking calls; usable from several threads, and in forked processes.

    Connects on first use. Close it, or use it as a context manager.

    Args:
        settings: where the servers are; from the environment when None.
        **overrides: single settings by name, e.g. data_url="redis://...".

    Raises:
        SettingsError: a setting is wrong; the message lists all that are.
    """

    def __init__(self, settings: Settings | None = None, **overrides: Any) -> None:
        connection = self._connect(settings or Settings.load(**overrides))
        self._connection = connection
        self._intake = Intake(connection.deployment, connection.settings, connection.codec, connection.blobs)

    def _connect(self, settings: Settings) -> BlockingConnection:
        return BlockingConnection(settings)

    def submit(self, contents: object = None, *, model: str, **options: Unpack[SubmitOptions]) -> Job:
        """Queue a request and return its job once it is accepted.

        Args:
            contents: a text, a list of texts and parts, or Gemini-shaped contents; None with `messages`.
            model: the provider's model name.
            **options: those of JobOptions: lane, tenant, deadline (seconds from now), idempotency_key, ...;
                system_instruction or messages; and every field of GenerationConfig, as a keyword or in `config`.

        Raises:
            InvalidRequest: an argument is wrong; nothing was queued.
            QueueFull: the data server is short of memory; submit again after the error's `retry_after` seconds.
            ServerUnavailable: the data server does not answer; after less than 3 s. Nothing was queued.
            SubmitUncertain: it stopped answering in the middle; submit again with the error's `job_id`.
            StreamGone: the job of the idempotency key is done and gone; there is no new one.
        """
        order = make_order(contents, model, options)
        return self._job(self._connection.run(submission.submit(order, self._intake)))

    def submit_many(self, items: Iterable[Mapping[str, Any]], **defaults: Any) -> list[Job | GenqueueError]:
        """Queue many requests in a few round trips; returns for each item, in order, its job or what went wrong.

        What `items` itself raises is raised, and the jobs that were accepted by then go on.

        Args:
            items: mappings of `submit`'s arguments: contents, model and any option.
            **defaults: arguments of the items that do not have them.
        """
        outcomes = self._connection.run(submission.submit_many(items, defaults, self._intake))
        return [self._job(outcome) if isinstance(outcome, Accepted) else outcome for outcome in outcomes]

    def submit_on_commit(
        self, contents: object = None, *, model: str, using: str | None = None, **options: Unpack[SubmitOptions]
    ) -> Job:
        """Check a request now, submit it once Django's transaction around has committed, and return its job now.

        Nothing is submitted when the transaction is rolled back. Outside of a transaction it is submitted at once.

        Args:
            contents: as of `submit`.
            model: as of `submit`.
            using: alias of the database; Django's default when None.
            **options: those of `submit`, without idempotency_key: the job's id serves as one.

        Raises:
            InvalidRequest: an argument is wrong.
            MissingExtra: Django is not installed.
        """
        if options.get("idempotency_key") is not None:
            raise InvalidRequest("idempotency_key", options["idempotency_key"], "none here: the job's id serves as one")
        job_id = options["job_id"] = self.new_job_id(contents, model=model, **options)
        order = make_order(contents, model, options)
        on_commit(lambda: self._connection.run(submission.submit(order, self._intake)), job_id, using)
        return Job(self._connection, job_id, None, order.schema)

    def new_job_id(self, contents: object = None, *, model: str, **options: Unpack[SubmitOptions]) -> str:
        """Return an id for a request, to submit it with as `job_id`: so it is known before anything is sent.

        Takes the arguments of `submit`; raises InvalidRequest as that does.
        """
        return Candidate(make_order(contents, model, options), self._intake).job

    def find(self, name: str, *, tenant: str = "default") -> list[Job]:
        """Return the jobs behind an id that Flower or a log shows.

        Args:
            name: id of a job; of a flight, which may carry several; of a Celery task, which leads to its flight, or to
                the job that a `genqueue.submit` admitted.
            tenant: of the job that a `genqueue.submit` admitted.

        Raises:
            JobNotFound: there is none.
        """
        connection = self._connection
        found = connection.run(whereabouts.find(connection.keys, name, tenant))
        return [Job(connection, job_id, None) for job_id in found]

    def job(self, job_id: str, *, response_schema: Any = None) -> Job:
        """Return a handle for a job submitted earlier, anywhere; raises InvalidRequest for what is no id.

        Args:
            job_id: the job's id.
            response_schema: what `result().parsed` reads the answer into; as at `submit`, which keeps it nowhere.
        """
        self._connection.keys.partition_of_id(job_id)
        return Job(self._connection, job_id, None, shape_of(response_schema))

    def _job(self, accepted: Accepted) -> Job:
        connection, job = self._connection, accepted.job
        reference = jobs.reference_of(connection.keys, job, accepted.flight, accepted.mark)
        return Job(connection, job, reference, accepted.schema)

    def finished(self, group: str, consumer: str, *, start: Start = "oldest", idle: float = 60.0) -> Iterator[Finished]:
        """Yield every job that ends, once for all consumers of a group; waits for the next, without end.

        A job counts as done when the loop asks for the next one; one whose consumer died comes again, so a job may
        come twice. About the last thousand jobs of each partition are kept for groups that are not read.

        Args:
            group: its consumers share the jobs; another group gets all of them too.
            consumer: this one's name, different from the others'; keep it across restarts.
            start: where a group that nobody read before begins: with the oldest job kept, or with those to come.
            idle: seconds one job may take; then another consumer of the group takes over what this one has.
        """
        connection = self._connection
        return self._follow(Feed(connection.deployment, consumer_of(group, consumer, start, idle), connection.settings))

    def _follow(self, feed: Feed) -> Iterator[Finished]:
        while True:
            yield self._connection.run(feed.next())

    def purge(self, job_id: str) -> bool:
        """Erase every trace of a job, whatever its state; returns False when nobody knows it.

        A flight that others share stays, without this job. What runs is called off.
        """
        connection = self._connection
        return connection.run(purge.purge(connection.deployment, job_id, connection.blobs))

    def purge_tenant(self, tenant: str) -> Purged:
        """Erase every job of a tenant and the answers cached for it; returns how many there were."""
        connection = self._connection
        return connection.run(purge.purge_tenant(connection.deployment, tenant, connection.blobs))

    def dead(self, limit: int = 100, tenant: str | None = None) -> list[DeadLetter]:
        """Return jobs that failed in a way the same request may not fail again, the newest first.

        Args:
            limit: how many at most.
            tenant: only those with a job of this tenant; None is everybody's.
        """
        return self._connection.run(dead.letters(self._intake, limit, tenant))

    def dead_letter(self, job_id: str, *, with_request: bool = False) -> DeadLetter:
        """Return the dead letter of a job with its history, and with its request where that is wanted.

        Raises:
            InvalidRequest: the job is no dead letter.
            JobNotFound: nobody knows it (any more).
            PayloadUnreadable: the request is wanted, and no key here opens it.
        """
        return self._connection.run(dead.letter(self._intake, job_id, with_request=with_request))

    def replay(self, job_id: str, /, **options: Unpack[ReplayOptions]) -> Job:
        """Queue the request of a dead letter as a new job and return that; the dead letter stays until it is dropped.

        Each call is a job of its own, unless they have an idempotency_key. Tenant, lane, cache, share, store and
        on_interrupt are the dead job's; what was to be told of its end (on_done) is not told of this one's.

        Args:
            job_id: of any job of the dead letter.
            **options: those of JobOptions, but the tenant and the residency.

        Raises:
            InvalidRequest: the job is no dead letter, or nobody kept its request; or an option is wrong.
            JobNotFound: nobody knows it (any more).
            PayloadUnreadable: no key here opens the request, or its inline data is gone.
            SubmitUncertain: as `submit`; replay it again with the error's `job_id`.
            QueueFull, ServerUnavailable, StreamGone: as `submit`.
        """
        return self._job(self._connection.run(replay.replay(self._intake, job_id, options)))

    def drop(self, job_id: str) -> bool:
        """Drop a dead letter: its request, its history and its inline data; returns False for a job that is none.

        The job is known for as long as any that has ended. Raises JobNotFound when nobody knows it (any more).
        """
        return self._connection.run(dead.drop(self._intake, job_id))

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

    def __init__(
        self, connection: BlockingConnection, job_id: str, reference: Reference | None, schema: Any = None
    ) -> None:
        self.id = job_id
        self._schema = schema
        self._connection = connection
        self._found = reference

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    @property
    def stream_key(self) -> str:
        """Key of the Redis stream that holds the job's events."""
        return self._reference().stream

    @property
    def leave_mark(self) -> str:
        """The job's leave mark: a `left` event with it ends the job's part of the stream."""
        return self._reference().mark

    def tail(
        self, after: Event | str | None = None, *, timeout: float | None = None, heartbeat: float | None = None
    ) -> Generator[Event, None, None]:
        """Yield the job's events as they come, from the first or behind `after`, to its last.

        Args:
            after: an event, or its id, to resume behind.
            timeout: seconds until WaitTimeout; None waits for the end.
            heartbeat: seconds of silence after which `tail.SILENCE` is yielded, an event without an id; None never.

        Raises:
            StreamGone: the stream has expired.
            JobNotFound: nobody knows the job.
        """
        position(after)
        patience = self._patience(timeout)
        return self._connection.follow(tail(self._reference(patience), after, patience, heartbeat))

    def result(self, timeout: float | None = None) -> Result:
        """Wait for the end and return the whole answer.

        Raises:
            JobFailed, JobCancelled, JobExpired: it ended without an answer.
            WaitTimeout: `timeout` seconds passed; the job goes on.
        """
        patience = self._patience(timeout)
        found = self._connection.run(jobs.result(self._reference(patience), patience, self._connection.codec))
        return with_parsed(found, self._schema)

    def text(self, timeout: float | None = None) -> str:
        """Wait for the end and return the answer's text; raises as `result`."""
        return self.result(timeout).text

    def status(self, timeout: float | None = None) -> Status:
        """Return where the job is.

        Args:
            timeout: seconds to go on asking a server that is away; half a second when None.

        Raises:
            JobNotFound: nobody knows the job (any more).
            ServerUnavailable: the data server does not answer.
        """
        patience = lasting(timeout)
        return self._connection.run(jobs.status(self._reference(patience), patience))

    def cancel(self, timeout: float | None = None) -> bool:
        """End the job for this caller; returns False when it had ended before.

        Args and errors are those of `status`.
        """
        patience = lasting(timeout)
        reference = self._reference(patience)
        return self._connection.run(jobs.cancel(reference, self._connection.keys, patience))

    def _reference(self, patience: Patience = BRIEF) -> Reference:
        if self._found is None:
            self._found = self._connection.run(jobs.look_up(self._connection.keys, self.id, patience))
        return self._found

    def _patience(self, timeout: float | None) -> Patience:
        return Patience(timeout, self._connection.settings.reconnect_timeout)
