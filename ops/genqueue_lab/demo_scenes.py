"""What the demo shows: the lanes, the cache, and a worker killed in mid-answer."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import redis.asyncio

from genqueue.keys import Keys
from genqueue_lab.demo_runs import Run
from genqueue_lab.fleet import START_PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from genqueue.aio import AsyncClient
    from genqueue.events import Event
    from genqueue.lanes import Lane
    from genqueue.settings import Settings
    from genqueue_lab.demo_screen import Screen
    from genqueue_lab.fleet import Fleet, WorkerOptions
    from genqueue_lab.processes import Process

#: Seconds one job may take.
JOB_PATIENCE = 45.0

#: Asked first, with as many more low jobs as slots: one of them has to wait.
LOW_QUESTIONS = (
    "Name three rivers and where they end, in two sentences.",
    "Name three mountains and who climbed them first, in two sentences.",
    "Name three bridges and what they cross, in two sentences.",
)
NORMAL_QUESTIONS = ("Why is the sky blue? Two sentences.", "Why is the sea salty? Two sentences.")
HIGH_QUESTIONS = ("What is a queue? Two sentences.", "What is a lease? Two sentences.")
LONG_QUESTION = "Describe a night in a lighthouse in about 250 words."


class SceneFailed(RuntimeError):
    """Something was not as the demo says it is."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What the scenes play with.

    Attributes:
        worker: how workers are started.
        repeatable: whether the provider gives the same answer to the same question every time.
        runs: every run so far.
    """

    client: AsyncClient
    settings: Settings
    fleet: Fleet
    screen: Screen
    worker: WorkerOptions
    model: str
    repeatable: bool
    runs: list[Run] = field(default_factory=list)

    def run(self, lane: Lane, question: str, note: str = "") -> Run:
        """Return a new run."""
        run = Run(len(self.runs) + 1, lane, question, note)
        self.runs.append(run)
        return run

    async def ask(self, run: Run, show: Callable[[Run, Event], None]) -> None:
        """Submit a run's question, tail its answer to the end and take the result; raises what `result` raises."""
        clock = asyncio.get_running_loop().time
        try:
            run.asked_at = clock()
            job = await self.client.submit(run.question, model=self.model, lane=run.lane)
            run.job_id = job.id
            async with aclosing(job.tail(timeout=JOB_PATIENCE)) as events:
                async for event in events:
                    run.see(event, clock())
                    show(run, event)
            run.result = await job.result(JOB_PATIENCE)
        finally:
            run.close()
        ensure(run.result.text == run.text, f"{run.label}: the stream and the result differ")


async def play(stage: Stage) -> None:
    """Play every scene; raises SceneFailed, GenqueueError or ProcessEnded."""
    await lanes(stage)
    await cache(stage)
    await loss(stage)


async def lanes(stage: Stage) -> None:
    """Show that the most urgent job gets the next free slot, whenever it came."""
    slots = stage.worker.slots
    stage.screen.title("Three lanes, one worker")
    stage.screen.say(
        f"The worker has {slots} slots. Low jobs take them and one more waits; then normal and high ones come.\n"
        "Each slot that gets free goes to the most urgent lane, so nobody waits behind a batch."
    )
    low = [stage.run("low", question) for question in LOW_QUESTIONS]
    waited = low[slots]
    normal = [stage.run("normal", question) for question in NORMAL_QUESTIONS]
    high = [stage.run("high", question) for question in HIGH_QUESTIONS]
    with stage.screen.board([*low, *normal, *high]) as show:
        async with together() as group:
            for run in low[:slots]:
                group.create_task(stage.ask(run, show))
                await run.started.wait()
            group.create_task(stage.ask(waited, show))
            await waited.accepted.wait()
            for run in [*normal, *high]:
                group.create_task(stage.ask(run, show))
    ensure(
        all(moment(run.started_at) < moment(waited.started_at) for run in high),
        f"{waited.label} (low) began before a high job that was waiting",
    )
    stage.screen.say(f"{waited.label} was asked before {high[0].label} and {high[1].label} and began after both.")


async def cache(stage: Stage) -> None:
    """Show that a question that was answered is not asked again."""
    first = next(run for run in stage.runs if run.lane == "high")
    stage.screen.title("The same question again")
    stage.screen.say(f"{first.label} is asked once more, on the low lane. No slot and no provider is needed.")
    run = stage.run("low", first.question, f"{first.label} asked again")
    with stage.screen.board([run]) as show:
        await stage.ask(run, show)
    if run.result is None or first.result is None or run.result.source != "cache":
        raise SceneFailed(f"{run.label} did not come from the cache")
    ensure(run.text == first.text, f"{run.label} got another answer than {first.label}")
    milliseconds = (moment(run.ended_at) - run.asked_at) * 1000
    stage.screen.say(f"The whole answer came after {milliseconds:.0f} ms: source cache.")


async def loss(stage: Stage) -> None:
    """Show that a job outlives the worker that holds it."""
    stage.screen.title("A worker dies in mid-answer")
    stage.screen.say("A second worker starts; then a high job is asked, and whoever holds it gets SIGKILL.")
    second = stage.fleet.work(stage.worker)
    async with asyncio.timeout(START_PATIENCE):
        await asyncio.wrap_future(second.ready)
    stage.screen.say(f"{second.name} is ready.")
    run = stage.run("high", LONG_QUESTION)
    with stage.screen.board([run]) as show:
        async with together() as group:
            group.create_task(stage.ask(run, show))
            await run.started.wait()
            victim = await holder(stage, run.job_id)
            await run.flowing.wait()
            ensure(
                run.ended_at is None, f"{run.label} ended before its worker could be killed: the answer is too short"
            )
            victim.kill()
            killed_at = asyncio.get_running_loop().time()
            stage.screen.say(
                f"killed {victim.name} (pid {victim.pid}). It told nobody: its lease runs out, then another takes over."
            )
    run.note = f"{victim.name} killed"
    _check_recovery(stage, run)
    seconds = moment(run.restarted_at) - killed_at
    stage.screen.say(f"Restarted {seconds:.1f} s after the kill on the other worker; the answer is complete.")


def _check_recovery(stage: Stage, run: Run) -> None:
    ensure(run.restarted_at is not None, f"{run.label} was not restarted")
    ensure(run.result is not None and run.result.attempts == 2, f"{run.label} did not take two attempts")
    ensure(
        not stage.repeatable or run.text.startswith(run.discarded),
        f"{run.label}: the second answer does not begin like the first",
    )


async def holder(stage: Stage, job_id: str) -> Process:
    """Return the worker that holds a running job, as the ledger has it."""
    keys = Keys(stage.settings.key_prefix, stage.settings.partitions)
    async with redis.asyncio.Redis.from_url(stage.settings.data_url, decode_responses=True) as data:
        flight = await data.execute_command("HGET", keys.job(job_id), "flight")
        inbox = await data.execute_command("HGET", keys.flight(flight), "inbox")
    for worker in stage.fleet.workers:
        if str(inbox).endswith(f":{worker.pid}"):
            return worker
    raise SceneFailed(f"no worker of this demo holds job {job_id}, but {inbox}")


@asynccontextmanager
async def together() -> AsyncIterator[asyncio.TaskGroup]:
    """Run tasks as a TaskGroup does, but raise the first error itself."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


def ensure(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - a condition is what it is about
    """Raise SceneFailed with the sentence unless the condition holds."""
    if not holds:
        raise SceneFailed(otherwise)


def moment(value: float | None) -> float:
    """Return a moment that must have come; raises SceneFailed when it did not."""
    if value is None:
        raise SceneFailed("an event that has to come did not come")
    return value
