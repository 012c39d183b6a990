"""The worker's Celery app, with remote control commands that break what the watchdog looks after."""

import logging
import time

from celery.worker.control import control_command

from genqueue_worker.app import app
from genqueue_worker.transport import Channel

__all__ = ["app"]


def _nothing(*_, **__):
    """Send no pop; called when the last one is over."""
    logging.getLogger().warning("deaf now")


@control_command()
def deafen(state):
    """Let the channel that is open now send no more pops: a new connection helps."""
    state.consumer.task_consumer.channel._brpop_start = _nothing
    return {"ok": "deaf"}


@control_command()
def deafen_for_good(state):
    """Let no channel send pops any more: nothing helps."""
    Channel._brpop_start = _nothing
    return {"ok": "deaf"}


@control_command()
def hang_hub(state):
    """Let Celery's thread turn no more."""
    time.sleep(600)


@control_command()
def hang_loop(state):
    """Let the asyncio loop turn no more."""
    state.consumer.pool.loop.call_soon_threadsafe(time.sleep, 600)
    return {"ok": "hanging"}
