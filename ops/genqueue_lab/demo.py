"""`genqueue demo`: what genqueue does, in under a minute, on any machine."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from genqueue import AsyncClient
from genqueue.errors import GenqueueError
from genqueue.lanes import LANES
from genqueue.settings import Settings
from genqueue_lab import demo_scenes
from genqueue_lab.demo_scenes import SceneFailed, Stage
from genqueue_lab.demo_screen import Screen
from genqueue_lab.emulator.options import Pace
from genqueue_lab.fleet import Fleet, WorkerOptions, wait_ready
from genqueue_lab.interrupts import Interrupts
from genqueue_lab.processes import ProcessEnded
from genqueue_worker.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Coroutine

#: Slow enough to be watched.
PACE = Pace(ttft=0.25, tpot=0.03, tokens=40)

#: Two slots, so that lanes matter.
WORKER = WorkerOptions(slots=2, drain=1.0)

#: Exit status after Ctrl-C, as shells have it.
INTERRUPTED = 130

#: What the scenes rely on, whatever the terminal has set. A fresh server forgives leases for as long as the longest
#: lease: a short one, or the worker that is killed would still be waited for.
ENVIRONMENT = {"GENQUEUE_LANES": ",".join(LANES), "GENQUEUE_LEASE_HIGH": "4", "GENQUEUE_LEASE_OTHER": "4"}


@dataclass(frozen=True, slots=True)
class Show:
    """What is shown.

    Attributes:
        model: the model that is asked.
        server: a server's name or path; the embedded Valkey when None.
        settings: as the terminal has them.
    """

    model: str
    server: str | None
    settings: WorkerSettings

    @property
    def emulated(self) -> bool:
        """Whether the emulator answers."""
        return not self.settings.gemini_api_key

    @property
    def provider(self) -> str:
        """Who answers, in words."""
        if self.emulated:
            return "an emulator of Gemini (it answers in random words; set GEMINI_API_KEY for real ones)"
        return f"a client of {self.settings.gemini_base_url}"


@click.command()
@click.option("--model", default="gemini-3-flash-preview", show_default=True, help="The model to ask.")
@click.option("--server", help="A Redis or Valkey server to run instead of the embedded Valkey.")
def demo(model: str, server: str | None) -> None:
    """Show lanes, live answers, the cache, and a worker killed in mid-answer.

    Starts its own data server and workers and ends them. Asks Gemini when GEMINI_API_KEY is set, an emulator otherwise.
    """
    settings = WorkerSettings.load()
    interrupts = Interrupts()
    with tempfile.TemporaryDirectory(prefix="genqueue-demo-") as directory:
        status = run(Show(model, server, settings), Path(directory), interrupts)
    interrupts.over()
    sys.exit(status)


def run(show: Show, directory: Path, interrupts: Interrupts) -> int:
    """Play the demo and return its exit status: 0, 1 when something was not as it should be, 130 after Ctrl-C."""
    screen = Screen()
    fleet = Fleet(directory, lambda _process, _line: None)
    interrupts.kill_with(fleet.kill)
    status = 1
    try:
        url = start(show, fleet, screen)
        interrupts.run(perform(show, fleet, screen, url))
        status = 0
    except KeyboardInterrupt:
        status = INTERRUPTED
        screen.say("\ninterrupted")
    except (SceneFailed, ProcessEnded, GenqueueError, TimeoutError) as error:
        screen.say(f"\nthe demo failed: {error}")
    finally:
        interrupts.stopping()
        if status:
            fleet.kill()
        fleet.stop()
    return status


def start(show: Show, fleet: Fleet, screen: Screen) -> str:
    """Start the data server, a provider if none is set, and the first worker; returns the server's URL."""
    fleet.environment |= ENVIRONMENT
    began = time.monotonic()
    url = fleet.serve(show.server)
    if show.emulated:
        fleet.emulate(PACE)
    wait_ready(fleet.work(WORKER))
    screen.say(f"Started a data server, {show.provider} and a worker in {time.monotonic() - began:.1f} s.")
    return url


async def perform(show: Show, fleet: Fleet, screen: Screen, url: str) -> None:
    """Play the scenes and print the summary; raises what they raise, or ProcessEnded when a process dies unasked."""
    settings = Settings.load(data_url=url, broker_url=url)
    async with AsyncClient(settings) as client:
        stage = Stage(client, settings, fleet, screen, WORKER, show.model, show.emulated)
        await unless_dead(fleet, demo_scenes.play(stage))
    screen.summary(stage.runs)


async def unless_dead(fleet: Fleet, story: Coroutine[Any, Any, None]) -> None:
    """Await the story; when a process of the fleet dies unasked meanwhile, call it off and raise ProcessEnded."""
    task = asyncio.create_task(story)
    death = asyncio.wrap_future(fleet.died)
    death.add_done_callback(lambda _: task.cancel())
    try:
        await task
    except asyncio.CancelledError:
        if death.done():
            raise death.result() from None
        raise
