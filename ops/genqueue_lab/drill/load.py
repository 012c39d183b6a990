"""The load of a drill: submits through the public client, and keeps what was accepted."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from genqueue.errors import ServerUnavailable, SubmitUncertain
from genqueue.lanes import LANES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from genqueue import Client
    from genqueue.client import Job
    from genqueue.lanes import Lane

MODEL: Final = "gemini-2.5-flash"

#: Seconds between two tries of a submit while the server is away, and how long one is tried.
RETRY: Final = 0.1
PATIENCE: Final = 90.0


@dataclass(frozen=True, slots=True)
class Accepted:
    """A job whose submit returned.

    Attributes:
        id: the job.
        flight: the flight it is a member of; its only one, as no two prompts are alike.
        stream: key of its events.
        prompt: what was asked.
        lane: its lane.
        at: monotonic seconds when the submit returned.
    """

    id: str
    flight: str
    stream: str
    prompt: str
    lane: Lane
    at: float


class Load:
    """Submits one prompt after another, each different; keeps what was accepted.

    Args:
        client: of the deployment.
        name: first words of every prompt.
        heard: told of every job as it is accepted, on the submitting thread.
        options: further arguments of every submit.

    Attributes:
        accepted: jobs whose submit returned, in order.
        refused: errors of submits that were given up.
        client: it submits with.
        uncertain: submits that had to be repeated under their job's id.
    """

    def __init__(
        self, client: Client, name: str, heard: Callable[[Accepted], object] = lambda _: None, **options: Any
    ) -> None:
        self.accepted: list[Accepted] = []
        self.refused: list[Exception] = []
        self.uncertain = 0
        self.client = client
        self._name = name
        self._heard = heard
        self._options = options
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def submit(self, count: int, lanes: Sequence[Lane] = LANES) -> list[Accepted]:
        """Submit so many jobs, one after the other, over the lanes in turn; returns those that were accepted."""
        found = [self._one(lanes[number % len(lanes)]) for number in range(count)]
        return [accepted for accepted in found if accepted is not None]

    def submit_many(self, count: int, lanes: Sequence[Lane] = LANES) -> list[Accepted]:
        """Submit so many jobs in a few round trips, over the lanes in turn; returns those that were accepted."""
        asked = [(self._prompt(number), lanes[number % len(lanes)]) for number in range(count)]
        items = [{"contents": prompt, "lane": lane} for prompt, lane in asked]
        found = []
        for (prompt, lane), outcome in zip(
            asked, self.client.submit_many(items, model=MODEL, **self._options), strict=True
        ):
            if isinstance(outcome, Exception):
                self.refused.append(outcome)
            else:
                found.append(self._keep(outcome, prompt, lane))
        return found

    def begin(self, count: int, seconds: float, lanes: Sequence[Lane] = LANES) -> None:
        """Submit so many jobs on a thread, evenly over some seconds; see `finish`."""
        self._thread = threading.Thread(target=self._steadily, args=(count, seconds, lanes), name="load", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Return once everything that was begun is submitted."""
        if self._thread is not None:
            self._thread.join()

    def stop(self) -> None:
        """Submit no more."""
        self._stop.set()
        self.finish()

    def _steadily(self, count: int, seconds: float, lanes: Sequence[Lane]) -> None:
        due = time.monotonic()
        for number in range(count):
            if self._stop.wait(max(0.0, due - time.monotonic())):
                return
            self._one(lanes[number % len(lanes)])
            due += seconds / count

    def one(self, prompt: str, lane: Lane) -> Accepted | None:
        """Submit one prompt, again and again while the server is away, under one id once it has one."""
        give_up = time.monotonic() + PATIENCE
        job_id: str | None = None
        while True:
            options: dict[str, Any] = {**self._options, **({} if job_id is None else {"job_id": job_id})}
            try:
                job = self.client.submit(prompt, model=MODEL, lane=lane, **options)
                break
            except SubmitUncertain as error:
                job_id = error.job_id
                self.uncertain += 1
                refused: Exception = error
            except ServerUnavailable as error:
                refused = error
            if time.monotonic() > give_up or self._stop.wait(RETRY):
                self.refused.append(refused)
                self._stop.set()  # the next one would only take as long
                return None
        return self._keep(job, prompt, lane)

    def _keep(self, job: Job, prompt: str, lane: Lane) -> Accepted:
        stream = job.stream_key
        accepted = Accepted(job.id, stream.rpartition(":")[2], stream, prompt, lane, time.monotonic())
        self.accepted.append(accepted)
        self._heard(accepted)
        return accepted

    def _one(self, lane: Lane) -> Accepted | None:
        return self.one(self._prompt(0), lane)

    def _prompt(self, ahead: int) -> str:
        """Return a prompt that was not asked yet; of several that are asked together, the one with this number."""
        return f"{self._name}, question {len(self.accepted) + ahead}-{len(self.refused)}"
