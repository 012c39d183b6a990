"""One order on its way to becoming a job: its ids, its deadline, what the server is asked, what became of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from genqueue import ledger
from genqueue.errors import GenqueueError, InvalidRequest
from genqueue.fingerprint import encode, fingerprint
from genqueue.payload.inline import detach
from genqueue.reservation import Reservation

if TYPE_CHECKING:
    from genqueue.deployment import Deployment
    from genqueue.options import JobOptions
    from genqueue.order import Order
    from genqueue.payload.blobs import BlobStore
    from genqueue.payload.codec import Codec
    from genqueue.settings import Settings

_OWN_KEY: Final = "a key of its own: it was used for another request"
_OWN_ID: Final = "an id made for this very request, by new_job_id() or a submit"


@dataclass(frozen=True, slots=True)
class Intake:
    """What it takes to submit.

    Attributes:
        deployment: where to.
        settings: how long things are kept, and how often they are tried.
        codec: how requests are stored.
        blobs: where their large inline data is kept; None for a deployment without such a place.
    """

    deployment: Deployment
    settings: Settings
    codec: Codec
    blobs: BlobStore | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """A job that was accepted.

    Attributes:
        job: its id.
        flight: the flight it is a member of.
        mark: its leave mark.
        schema: what its answer is to be read into; see Order.
    """

    job: str
    flight: str
    mark: str
    schema: Any = None


#: What became of one order.
Outcome = Accepted | GenqueueError


class Candidate:
    """One order on its way.

    Attributes:
        order: what is submitted.
        stored: its request as it is stored.
        job: the id it is to have.
        identity: fingerprint of what is asked, and of who shares it: by the payload key of now, or, for an id or an
            idempotency key of before its rotation, by that one's.
        place: its job and deadline: its own, or those of its idempotency key.
        submission: what the server is asked for.
        outcome: what became of it; None while that is still to be seen.

    Raises:
        InvalidRequest: its job_id is none, or of another request; or its inline data is too much.
    """

    place: Reservation
    submission: ledger.Submission

    def __init__(self, order: Order, intake: Intake) -> None:
        self.order = order
        self.outcome: Outcome | None = None
        self.stored = detach(order.document, order.options.tenant, intake.settings, intake.codec)
        self._identities = tuple(
            _identity(order.options, self.stored.identity, key) for key in intake.codec.fingerprint_keys
        )
        self.identity = self._identities[0]
        self._intake = intake
        self._sealed = b""
        self._keys = intake.deployment.keys
        if order.options.job_id is None:
            self.job = self._new_id()
        else:
            self.job = order.options.job_id
            self.identity = self._identity_of(self.job)

    @property
    def named(self) -> bool:
        """Whether the caller chose the id, so that another request may have had it."""
        return self.order.options.job_id is not None

    @property
    def entry(self) -> str:
        """Key of its idempotency entry; "" without one."""
        options = self.order.options
        return (
            "" if options.idempotency_key is None else self._keys.idempotency(options.tenant, options.idempotency_key)
        )

    def own_place(self) -> Reservation:
        """Return a place of its own, its deadline counted from now."""
        options, settings = self.order.options, self._intake.settings
        return Reservation(
            job=self.job,
            deadline_ms=int((self._intake.deployment.now() + self._seconds()) * 1000),
            keep_ms=_milliseconds(options.result_ttl or settings.result_ttl),
            request=self.identity,
        )

    def next_place(self) -> Reservation:
        """Return a place of its own with another job, for an entry whose job never was."""
        if not self.named:
            self.job = self._new_id()
        return self.own_place()

    def take(self, place: Reservation) -> None:
        """Take a place; one of another request is the end."""
        options = self.order.options
        if place.request not in self._identities:
            self.outcome = InvalidRequest("idempotency_key", options.idempotency_key, _OWN_KEY)
        elif options.job_id not in {None, place.job}:
            self.outcome = InvalidRequest("job_id", options.job_id, f"{place.job}: the job of its idempotency_key")
        else:
            self.place, self.identity = place, place.request
            self.submission = self._prepare()

    def seal(self) -> None:
        """Seal the request, which takes a while when it is large."""
        self._sealed = self._intake.codec.seal("request", self.stored.document)

    def accept(self, answer: ledger.Submitted) -> None:
        """Note that the server has accepted it."""
        self.outcome = Accepted(self.place.job, answer.flight, self.submission.mark, self.order.schema)

    def compare(self, fingerprint_of_job: bytes | None) -> None:
        """End as an error if a job of this id was submitted with another question."""
        same = self._identities if self._shared else ("",)
        if fingerprint_of_job is not None and fingerprint_of_job.decode() not in same:
            self.outcome = InvalidRequest("job_id", self.place.job, _OWN_ID)

    def refuse_late(self) -> None:
        """End as one whose deadline was too short to arrive."""
        expected = "more seconds: it passed before the request reached the server"
        self.outcome = InvalidRequest("deadline", self._seconds(), expected)

    @property
    def _shared(self) -> str:
        return "" if self.order.options.share == "none" else self.identity

    def _new_id(self) -> str:
        return self._keys.new_id(self._keys.partition_of_fingerprint(self._shared) if self._shared else None)

    def _identity_of(self, job_id: str) -> str:
        """Return the identity for which an id was made; raises InvalidRequest when it was for another request."""
        partition = self._keys.partition_of_id(job_id)
        for identity in self._identities:
            if not self._shared or self._keys.partition_of_fingerprint(identity) == partition:
                return identity
        raise InvalidRequest("job_id", job_id, _OWN_ID)

    def _seconds(self) -> float:
        options = self.order.options
        return self._intake.settings.deadline(options.lane) if options.deadline is None else options.deadline

    def _prepare(self) -> ledger.Submission:
        options, job = self.order.options, self.place.job
        return ledger.Submission(
            job=job,
            flight=self._keys.new_id(self._keys.partition_of_id(job)),
            fingerprint=self._shared,
            lane=options.lane,
            deadline_ms=self.place.deadline_ms,
            tenant=options.tenant,
            mark=mark_of(job),
            cache=options.cache,
            request=self._sealed or self._intake.codec.seal("request", self.stored.document),
            policy=self._policy(),
            store=options.store,
            on_done="" if options.on_done is None else encode(options.on_done).decode(),
            idem=self.entry,
            traceparent=options.traceparent or "",
            on_interrupt=options.on_interrupt,
            replayed_from=self.order.replayed_from,
        )

    def _policy(self) -> ledger.Policy:
        options, settings = self.order.options, self._intake.settings
        return ledger.Policy(
            max_tries=options.max_tries or settings.max_tries,
            max_losses=options.max_losses or settings.max_losses,
            stream_ttl_ms=_milliseconds(options.stream_ttl or settings.stream_ttl),
            keep_ms=self.place.keep_ms,
            cache_ttl_ms=_milliseconds(options.cache_ttl or settings.cache_ttl),
            dead_ttl_ms=_milliseconds(settings.dead_ttl),
            memory_high_water=settings.memory_high_water,
        )


def mark_of(job: str) -> str:
    """Return a job's leave mark: the same for whoever submits its id again, and no way back from it to the id."""
    return hashlib.sha256(f"mark:{job}".encode()).hexdigest()[:16]


def _identity(options: JobOptions, question: bytes, key: bytes) -> str:
    scope = "global" if options.share == "global" else f"{options.share}:{options.tenant}"
    return fingerprint(question, scope=scope, key=key)


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))
