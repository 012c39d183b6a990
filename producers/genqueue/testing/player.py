"""A provider and its worker in one: takes flights and plays scripts on them, by the ledger's own calls."""

from __future__ import annotations

import json
import secrets
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from genqueue import ledger
from genqueue.testing.script import DEFAULT_ANSWER, Fail, Finish, Hold, Lose, Retry, Say, steps_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from genqueue.keys import Keys
    from genqueue.ledger import Entry, Publication
    from genqueue.payload.codec import Codec
    from genqueue.scripts import Call
    from genqueue.testing.recorded import Recorded
    from genqueue.testing.script import Answer, Step

#: A lease that no test outlives, in ms: ten years. Only `lose` gives one up.
_LEASE: Final = 315_360_000_000

#: Sweeps after which a lost flight is another's at the latest: the first may grant the lease a grace.
_SWEEPS: Final = 4

#: Finish reasons after which an answer is kept for equal questions, as a worker does.
_CACHEABLE: Final = frozenset({"STOP"})


@dataclass(slots=True)
class Part:
    """One flight's script, and how far it was played.

    Attributes:
        request: what the flight was started for.
        steps: all of them.
        begun: the step the current attempt began with.
        next: the step it plays next.
        said: what the last attempt said, and those it went on from.
        continued: how often one has gone on from that.
    """

    request: Recorded
    steps: Sequence[Step]
    begun: int = 0
    next: int = 0
    said: list[Entry] = field(default_factory=list)
    continued: int = 0

    def begin(self, *, resumed: bool) -> list[Entry]:
        """Begin an attempt; returns what was said before it and stays, to be added to."""
        self.next = self.begun
        self.continued = self.continued + 1 if resumed else 0
        self.said = [entry for entry in self.said if resumed and entry["type"] == "delta"]
        return self.said


@dataclass(slots=True)
class Attempt:
    """One worker's try."""

    flight: str
    facts: ledger.Claimed
    part: Part
    token: str
    said: list[Entry] = field(default_factory=list)
    written: int = 0


class Player:
    """Plays scripts on flights, in the thread of whoever publishes, releases or advances.

    Args:
        run: runs a ledger call and returns its reply.
        keys: spells the deployment's keys.
        codec: opens requests, seals answers.
        now_ms: returns the server's time, in ms.

    Attributes:
        default: what is said when nothing is scripted.
    """

    def __init__(self, run: Callable[[Call], Any], keys: Keys, codec: Codec, now_ms: Callable[[], int]) -> None:
        self.default: Answer = DEFAULT_ANSWER
        self._run = run
        self._keys = keys
        self._codec = codec
        self._now_ms = now_ms
        self._answers: deque[Answer] = deque()
        self._parts: dict[str, Part] = {}
        self._held: list[Attempt] = []

    def script(self, *answers: Answer) -> None:
        """Add answers for the next flights, one each."""
        self._answers.extend(answers)

    def take(self, publication: Publication, request: Recorded) -> None:
        """Claim a flight and play its script, up to a hold or to its end; a void message has no effect."""
        part = self._part(publication.flight, request)
        token = secrets.token_hex(8)
        leases = ledger.Leases(_LEASE, _LEASE, _LEASE)
        inbox = self._keys.inbox("scripted")
        wish = ledger.Claim(publication.flight, token, publication.stamp, inbox, leases)
        facts = ledger.parse_claim(self._run(ledger.claim(self._keys, wish)))
        if facts == ledger.Refusal("suspect"):  # here every attempt has its process to itself
            facts = ledger.parse_claim(self._run(ledger.claim(self._keys, replace(wish, alone=True))))
        if isinstance(facts, ledger.Refusal):
            return
        attempt = Attempt(publication.flight, facts, part, token, part.begin(resumed=facts.resumed))
        started = {"type": "started", "route": "scripted", "model": part.request.model, "run": secrets.token_hex(4)}
        if self._write(attempt, started):
            self._play(attempt)

    def release(self) -> None:
        """Go on with every script that holds, to its next hold or its end."""
        held, self._held = self._held, []
        for attempt in held:
            self._play(attempt)

    def sweep(self, partition: int, now_ms: int) -> list[Publication]:
        """Look after a partition as if it were `now_ms`, and return what must be published."""
        look = ledger.Sweep(limit=1000, slack_ms=5000, grace_high_ms=1, grace_other_ms=1, min_interval_ms=0)
        found = ledger.parse_sweep(self._run(ledger.sweep(self._keys, partition, look, now_ms)))
        return ledger.publications(found)

    def _part(self, flight: str, request: Recorded) -> Part:
        if flight not in self._parts:
            answer = self._answers.popleft() if self._answers else self.default
            self._parts[flight] = Part(request, steps_of(answer, request))
        return self._parts[flight]

    def _play(self, attempt: Attempt) -> None:
        part = attempt.part
        while part.next < len(part.steps):
            step = part.steps[part.next]
            part.next += 1
            if not self._perform(attempt, step):
                return

    def _perform(self, attempt: Attempt, step: Step) -> bool:
        """Carry out a step and return whether the attempt goes on."""
        match step:
            case Say(entry):
                attempt.said.append(entry)
                return self._write(attempt, entry)
            case Hold():
                self._held.append(attempt)
            case Lose():
                self._lose(attempt)
            case _:
                self._end(attempt, step)
        return False

    def _write(self, attempt: Attempt, entry: Entry) -> bool:
        """Write an entry and return whether the attempt may go on."""
        sealed = self._codec.seal_entry(entry)
        call = ledger.append(self._keys, attempt.flight, attempt.token, attempt.written + 1, [sealed])
        attempt.written += 1
        return ledger.parse_append(self._run(call)).status == "ok"

    def _lose(self, attempt: Attempt) -> None:
        """Let the lease run out; the sweep then publishes the flight, and its next attempt goes on."""
        attempt.part.begun = attempt.part.next
        self._run(ledger.renew(self._keys, attempt.flight, attempt.token, 1))
        partition = self._keys.partition_of_id(attempt.flight)
        for later in range(_SWEEPS):
            publications = self.sweep(partition, self._now_ms() + 2 + 2 * later)
            for publication in publications:
                self.take(publication, self._parts[publication.flight].request)
            if any(publication.flight == attempt.flight for publication in publications):
                return

    def _end(self, attempt: Attempt, step: Retry | Fail | Finish) -> None:
        settlement = self._settlement(attempt, step)
        settled = ledger.parse_settle(self._run(ledger.settle(self._keys, settlement)))
        if settled.status == "waiting":
            attempt.part.begun = attempt.part.next
            assert isinstance(step, Retry)  # noqa: S101 - nothing else waits
            if not step.delay:
                self.look_after(self._keys.partition_of_id(attempt.flight))

    def look_after(self, partition: int) -> None:
        """Sweep a partition and take what that publishes."""
        for publication in self.sweep(partition, self._now_ms() + 1):
            part = self._parts.get(publication.flight)
            if part is not None:
                self.take(publication, part.request)

    def _settlement(self, attempt: Attempt, step: Retry | Fail | Finish) -> ledger.Settlement:
        flight, token, first = attempt.flight, attempt.token, attempt.written + 1
        match step:
            case Retry(code, message, delay):
                detail = self._codec.seal_entry(_failure(code, message, retryable=True))
                delay_ms = int(delay * 1000)
                return ledger.Settlement(flight, token, "retry", first, delay_ms=delay_ms, detail=detail)
            case Fail(code, message, retryable):
                detail = self._codec.seal_entry(_failure(code, message, retryable=retryable))
                return ledger.Settlement(flight, token, "failed", first, detail=detail)
            case Finish():
                result, completed = _answer(attempt, step)
                replay = [self._codec.seal_entry(entry) for entry in attempt.said]
                return ledger.Settlement(
                    flight,
                    token,
                    "succeeded",
                    first,
                    result=self._codec.seal("result", result),
                    replay=replay if _is_kept(attempt, step) else None,
                    detail=self._codec.seal_entry(completed),
                )


def _is_kept(attempt: Attempt, step: Finish) -> bool:
    """Return whether an answer may be given again: it is whole, of one piece, and the model's that was asked for."""
    return step.reason in _CACHEABLE and not attempt.part.continued and step.fallback_from is None


def _failure(code: str, message: str, *, retryable: bool) -> Entry:
    return {"code": code, "message": message, "retryable": "1" if retryable else "0"}


def _answer(attempt: Attempt, step: Finish) -> tuple[bytes, Entry]:
    """Return the result document and the fields of the terminal event, as a worker makes them."""
    facts, said = attempt.facts, attempt.said
    usage = dict(step.usage) if step.usage is not None else {"output_tokens": len(said), "total_tokens": len(said)}
    queued = max(0, facts.claimed_ms - facts.created_ms) / 1000
    timings = {"queued": queued, "ttft": 0.0, "total": queued}
    model = step.model or attempt.part.request.model
    result = {
        "v": 1,
        "text": "".join(str(entry["text"]) for entry in said if entry["type"] == "delta"),
        "content": {"role": "model", "parts": _parts(said)},
        "finish_reason": step.reason,
        "usage": usage,
        "model": model,
        "attempts": facts.attempt,
        "timings": timings,
    }
    completed = {
        "finish_reason": step.reason,
        "usage": json.dumps(usage),
        "timings": json.dumps(timings),
        "model": model,
        "source": "live",
    }
    if step.fallback_from is not None:
        result["fallback_from"] = completed["fallback_from"] = step.fallback_from
    if attempt.part.continued:
        result["continued"] = attempt.part.continued
        completed["continued"] = str(attempt.part.continued)
    return json.dumps(result, ensure_ascii=False).encode(), completed


def _parts(said: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return what was said as parts of the model's turn, neighbouring texts joined."""
    parts: list[dict[str, Any]] = []
    before = ""
    for entry in said:
        kind = str(entry["type"])
        if kind == "part":
            if entry.get("about", "part") == "part":
                parts.append(json.loads(str(entry["json"])))
        elif kind == before:
            parts[-1]["text"] += entry["text"]
        else:
            parts.append({"text": entry["text"], **({"thought": True} if kind == "thought" else {})})
        before = kind
    return parts
