"""Submitting: orders become jobs, each once, however often it is asked for."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from genqueue import ledger
from genqueue.arrivals import Arrivals
from genqueue.capacity import is_out_of_memory, out_of_memory, short_of_memory
from genqueue.errors import ServerUnavailable, StreamGone, SubmitUncertain
from genqueue.intake import Accepted, Candidate
from genqueue.patience import BRIEF, RETRY, ask, persist
from genqueue.payload.codec import COMPRESS_OVER
from genqueue.payload.deposit import put, take_back
from genqueue.reservation import Reservation, reserve
from genqueue.settings import server_name
from genqueue.steps import Pause, Publish, RunMany, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from genqueue.errors import QueueFull
    from genqueue.intake import Intake, Outcome
    from genqueue.order import Order
    from genqueue.scripts import Call
    from genqueue.steps import Operation


def submit(order: Order, intake: Intake) -> Operation[Accepted]:
    """Accept a job, then ring the broker.

    Raises:
        InvalidRequest: the deadline passed before the server had the request, or the job_id or the idempotency key
            is of another request; nothing was queued.
        QueueFull: the server is short of memory; nothing was queued.
        ServerUnavailable: the server does not answer; nothing was queued.
        SubmitUncertain: it stopped answering; the job may have been accepted.
        StreamGone: the job of the idempotency key is done and gone.
    """
    candidate = Candidate(order, intake)
    yield from _Batch([candidate], intake).carry_out()
    if isinstance(candidate.outcome, Accepted):
        return candidate.outcome
    assert candidate.outcome is not None  # noqa: S101 - for the type checker: a batch ends every candidate
    raise candidate.outcome


def submit_many(
    items: Iterable[Mapping[str, Any]], defaults: Mapping[str, Any], intake: Intake
) -> Operation[list[Outcome]]:
    """Accept many jobs, in bounded batches; returns for each item, in order, what became of it.

    Once the server has stopped answering, the items behind are not tried: nothing of them was queued.
    """
    outcomes: list[Outcome] = []
    away: ServerUnavailable | None = None
    arrivals = Arrivals(items, defaults, intake)
    while batch := arrivals.batch():
        candidates = [item for item in batch if isinstance(item, Candidate)]
        if away is None:
            away = yield from _Batch(candidates, intake, arrivals.look_ahead).carry_out()
        for item in batch:
            outcome = item.outcome or away if isinstance(item, Candidate) else item
            assert outcome is not None  # noqa: S101 - for the type checker: as above
            outcomes.append(outcome)
    return outcomes


@dataclass(frozen=True, slots=True)
class _Unanswered:
    """A call that got no answer, or was refused at last; `sent` when it may have been done all the same."""

    error: ServerUnavailable
    sent: bool


class _Batch:
    """Candidates that are asked for together.

    Args:
        candidates: all that are.
        intake: what it takes to submit.
        meanwhile: what is to be done while the server is at it.
    """

    def __init__(
        self, candidates: Sequence[Candidate], intake: Intake, meanwhile: Callable[[], None] | None = None
    ) -> None:
        self._candidates = candidates
        self._meanwhile = meanwhile
        self._deployment = intake.deployment
        self._blobs = intake.blobs
        self._server = server_name(intake.settings.data_url)
        self._ttl_ms = int(intake.settings.idempotency_ttl * 1000)
        # One patience for all that a batch takes, so that its caller has an answer in less than 3 s.
        self._until = time.monotonic() + BRIEF.reconnect
        self._away: ServerUnavailable | None = None

    def carry_out(self) -> Operation[ServerUnavailable | None]:
        """Give every candidate its outcome; returns why the server could not be asked, if it could not."""
        yield from self._enter(self._deployment.enter, self._candidates)
        for candidate in self._open():
            if len(candidate.stored.document) > COMPRESS_OVER:
                yield Work(candidate.seal)
        yield from self._place(self._open())
        late = yield from self._offer(self._open())
        if late:
            # By the server's clock, read anew: this machine's may have run differently since.
            yield from self._enter(self._deployment.join, late)
            yield from self._place_again(self._open())
            for candidate in (yield from self._offer(self._open())):
                candidate.refuse_late()
        unanswered = (isinstance(one.outcome, (ServerUnavailable, SubmitUncertain)) for one in self._candidates)
        return self._away if all(unanswered) else None

    def _open(self) -> list[Candidate]:
        return [candidate for candidate in self._candidates if candidate.outcome is None]

    def _enter(self, entering: Callable[[], Operation[None]], candidates: Sequence[Candidate]) -> Operation[None]:
        """Join the deployment, or end the candidates."""
        try:
            yield from persist(entering, BRIEF)
        except ServerUnavailable as error:
            away = _Unanswered(self._unavailable(error), sent=False)
            for candidate in candidates:
                candidate.outcome = _refused(candidate, away)

    def _place(self, candidates: Sequence[Candidate]) -> Operation[None]:
        """Give each its job and deadline."""
        wishes = []
        for candidate in candidates:
            if candidate.entry:
                wishes.append(_Wish(candidate, candidate.own_place()))
            else:
                candidate.take(candidate.own_place())
        yield from self._reserve(wishes)

    def _place_again(self, candidates: Sequence[Candidate]) -> Operation[None]:
        """Give those that came too late for their deadline another one.

        The server has just said that it does not know the job of an idempotency key, and nobody can submit it any more.
        While such a job would be kept, that means that it never was; later nobody can tell.
        """
        wishes = []
        for candidate in candidates:
            place = candidate.place
            if not candidate.entry:
                candidate.take(candidate.own_place())
            elif self._deployment.now() * 1000 < place.deadline_ms + place.keep_ms:
                wishes.append(_Wish(candidate, candidate.next_place(), place))
            else:
                candidate.outcome = StreamGone(place.job)
        yield from self._reserve(wishes)

    def _reserve(self, wishes: Sequence[_Wish]) -> Operation[None]:
        calls = [reserve(wish.candidate.entry, wish.place, self._ttl_ms, wish.replaced) for wish in wishes]
        for wish, answer in zip(wishes, (yield from self._ask(calls)), strict=True):
            if isinstance(answer, _Unanswered):
                wish.candidate.outcome = _refused(wish.candidate, answer)
            else:
                wish.candidate.take(Reservation.parse(answer))

    def _offer(self, candidates: Sequence[Candidate]) -> Operation[list[Candidate]]:
        """Submit, and ring for what was accepted; returns those whose deadline has passed."""
        candidates = yield from self._deposit(candidates)
        calls = [ledger.submit(self._deployment.keys, candidate.submission) for candidate in candidates]
        answers: list[tuple[Candidate, ledger.Submitted]] = []
        meanwhile, self._meanwhile = self._meanwhile, None
        for candidate, answer in zip(candidates, (yield from self._ask(calls, meanwhile)), strict=True):
            if not isinstance(answer, _Unanswered):
                answers.append((candidate, ledger.parse_submit(answer)))
            elif answer.sent:
                candidate.outcome = _uncertain(candidate.place.job, answer.error)
            else:
                candidate.outcome = _refused(candidate, answer)
        for candidate, answer in answers:
            if answer.status == "full":
                candidate.outcome = short_of_memory(candidate.order.options.lane, answer.used)
        accepted = [(candidate, answer) for candidate, answer in answers if answer.status not in {"late", "full"}]
        for candidate, answer in accepted:
            candidate.accept(answer)
        yield from self._compare([candidate for candidate, answer in accepted if _is_anothers(candidate, answer)])
        due = tuple(
            _traced(answer.publication, candidate.submission.traceparent)
            for candidate, answer in accepted
            if isinstance(candidate.outcome, Accepted) and answer.publication is not None
        )
        if due:
            yield Publish(due)
        own = {answer.flight for _, answer in accepted if answer.status in {"new", "dup"}}
        yield from self._take_back([candidate for candidate in candidates if candidate.submission.flight not in own])
        return [candidate for candidate, answer in answers if answer.status == "late"]

    def _deposit(self, candidates: Sequence[Candidate]) -> Operation[list[Candidate]]:
        """Write the blobs of candidates; returns those whose blobs are all there."""
        laden = [candidate for candidate in candidates if candidate.stored.blobs]
        if self._blobs is not None and laden:
            yield from put(self._blobs, laden)
            self._until = time.monotonic() + BRIEF.reconnect  # what the blob store took is not the data server's
        return [candidate for candidate in candidates if candidate.outcome is None]

    def _take_back(self, candidates: Sequence[Candidate]) -> Operation[None]:
        """Delete the blobs of candidates whose own flight does not live; one that may live keeps them."""
        unused = [one for one in candidates if one.stored.blobs and not isinstance(one.outcome, SubmitUncertain)]
        if self._blobs is not None:
            yield from take_back(self._blobs, unused)

    def _compare(self, candidates: Sequence[Candidate]) -> Operation[None]:
        """End those whose id was given to another question before. Jobs that share nothing cannot be told apart."""
        keys = self._deployment.keys
        if not candidates:
            return
        asked = [("HGET", keys.job(candidate.place.job), "fingerprint") for candidate in candidates]
        try:
            found = yield from ask(asked, BRIEF)
        except ServerUnavailable as error:
            away = self._unavailable(error)
            for candidate in candidates:
                candidate.outcome = _uncertain(candidate.place.job, away)
        else:
            for candidate, known in zip(candidates, found, strict=True):
                candidate.compare(known)

    def _ask(self, calls: Sequence[Call], meanwhile: Callable[[], None] | None = None) -> Operation[list[Any]]:
        """Run calls until the server has answered each, or the patience is used up; returns replies or _Unanswered."""
        answers: list[Any] = [None] * len(calls)
        sent = [False] * len(calls)
        waiting = list(range(len(calls)))
        while waiting:
            try:
                replies = yield RunMany(tuple(calls[index] for index in waiting), meanwhile)
            except ServerUnavailable as error:
                replies = [error] * len(waiting)
            for index, reply in zip(waiting, replies, strict=True):
                answers[index] = reply
                sent[index] |= isinstance(reply, ServerUnavailable) and reply.sent
            meanwhile = None
            # A server without memory has it no sooner for being asked again.
            waiting = [
                index
                for index in waiting
                if isinstance(answers[index], Exception) and not is_out_of_memory(answers[index])
            ]
            if waiting and time.monotonic() >= self._until:
                break
            if waiting:
                yield Pause(RETRY)
        return [
            _Unanswered(self._unavailable(answer), sent=was_sent) if isinstance(answer, Exception) else answer
            for answer, was_sent in zip(answers, sent, strict=True)
        ]

    def _unavailable(self, error: Exception) -> ServerUnavailable:
        """Return the error for an order of which nothing was queued."""
        reason = error.__cause__ if isinstance(error, ServerUnavailable) else error
        self._away = ServerUnavailable(self._server, reason or error)
        self._away.__cause__ = reason
        return self._away


@dataclass(frozen=True, slots=True)
class _Wish:
    """A candidate's wish for a place in its idempotency entry, maybe instead of one that is there."""

    candidate: Candidate
    place: Reservation
    replaced: Reservation | None = None


def _traced(publication: ledger.Publication, traceparent: str) -> ledger.Publication:
    return replace(publication, traceparent=traceparent) if traceparent else publication


def _refused(candidate: Candidate, answer: _Unanswered) -> ServerUnavailable | QueueFull:
    """Return the error for a candidate of which nothing was queued."""
    if not is_out_of_memory(answer.error.__cause__):
        return answer.error
    full = out_of_memory(candidate.order.options.lane)
    full.__cause__ = answer.error.__cause__
    return full


def _uncertain(job: str, error: ServerUnavailable) -> SubmitUncertain:
    uncertain = SubmitUncertain(job, error.__cause__ or error)
    uncertain.__cause__ = error.__cause__
    return uncertain


def _is_anothers(candidate: Candidate, answer: ledger.Submitted) -> bool:
    """Whether the job was known before, under an id that the caller chose."""
    return candidate.named and answer.status == "dup" and answer.flight != candidate.submission.flight
