"""`genqueue worker`: a worker in this process."""

from __future__ import annotations

import secrets
import socket
import warnings
from typing import TYPE_CHECKING, Any

import click
from celery.exceptions import SecurityWarning
from celery.signals import worker_shutting_down

from genqueue.connections import BlockingConnection
from genqueue.errors import ServerUnavailable
from genqueue.lanes import queues_of
from genqueue.patience import BRIEF, Patience, persist
from genqueue.settings import server_name
from genqueue.steps import Query
from genqueue_worker.factory import make_worker_app
from genqueue_worker.runtime import START_PATIENCE
from genqueue_worker.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from genqueue.steps import Operation

_LEVELS = click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False)


@click.command()
@click.option("--lanes", help="Lanes to consume, e.g. high,normal.  [default: GENQUEUE_LANES, or all]")
@click.option("--slots", help="Generations at once.  [default: GENQUEUE_SLOTS, or 100]")
@click.option("--name", "worker_name", help="In front of the host's name in Flower.  [default: GENQUEUE_WORKER_NAME]")
@click.option("--drain", "drain_timeout", metavar="SECONDS", help="How long generations may go on after SIGTERM.")
@click.option("--loglevel", type=_LEVELS, default="INFO", show_default=True, help="What is logged, to stderr.")
@click.pass_context
def worker(ctx: click.Context, /, *, loglevel: str, **given: Any) -> None:
    """Run a worker in this terminal.

    Ctrl-C, or SIGTERM, takes no more work and lets generations end; a second Ctrl-C ends at once, and another worker
    takes over what ran. Options win over GENQUEUE_* variables.
    """
    settings = WorkerSettings.load(**{name: value for name, value in given.items() if value is not None})
    await_servers(settings)
    ctx.exit(run(settings, loglevel))


def await_servers(settings: WorkerSettings) -> None:
    """Return once data server and broker answer.

    Raises:
        SettingsError: the deployment was made with other settings.
        ServerUnavailable: the data server did not answer within START_PATIENCE.
        click.ClickException: the broker did not.
    """
    joining = BlockingConnection(settings)
    try:
        _patiently(
            lambda patience: joining.run(persist(joining.deployment.enter, patience)),
            f"the data server at {server_name(settings.data_url)}",
        )
    finally:
        joining.close()
    if settings.broker == settings.data_url:
        return
    broker = BlockingConnection(settings.model_copy(update={"data_url": settings.broker}))
    where = f"the broker at {server_name(settings.broker)}"
    try:
        _patiently(lambda patience: broker.run(persist(_ping, patience)), where)
    except ServerUnavailable as error:
        raise click.ClickException(
            f"{where} is not available ({error.__cause__}); start it or set GENQUEUE_BROKER_URL"
        ) from error
    finally:
        broker.close()


def _patiently(attempt: Callable[[Patience], object], what: str) -> None:
    try:
        attempt(BRIEF)
    except ServerUnavailable:
        click.echo(f"waiting up to {START_PATIENCE.reconnect:g} s for {what}", err=True)
        attempt(START_PATIENCE)


def _ping() -> Operation[object]:
    return (yield Query((("PING",),)))


def run(settings: WorkerSettings, loglevel: str) -> int:
    """Run a Celery worker until it is told to stop and return the exit status."""
    stops: list[str] = []

    def note_stop(how: str, **_: object) -> None:
        stops.append(how)

    worker_shutting_down.connect(note_stop)
    # Unique: Flower and remote control tell workers apart by it, and one host may run many.
    name = f"{settings.worker_name}-{secrets.token_hex(3)}@{socket.gethostname()}"
    with warnings.catch_warnings():
        # Celery warns of running as root because of pickle; this app accepts nothing but JSON.
        warnings.simplefilter("ignore", SecurityWarning)
        instance = make_worker_app(settings).Worker(
            hostname=name,
            loglevel=loglevel.upper(),
            queues=[queue for lane in settings.consumed_lanes for queue in queues_of(lane)],
            # They tell workers of each other, which none needs, and cost a second at the start.
            without_gossip=True,
            without_mingle=True,
            quiet=True,
        )
    click.echo(f"{name}: lanes {settings.lanes}, {settings.slots} slots; Ctrl-C stops it", err=True)
    instance.start()
    return exit_status(stops, instance.exitcode)


def exit_status(stops: list[str], exitcode: object) -> int:
    """Return the status of a worker that ended; Celery's own calls Ctrl-C a failure, and a cold stop none.

    Args:
        stops: "Warm" or "Cold" for each signal that asked it to end.
        exitcode: Celery's; a sentence or None when the worker was stopped from afar.
    """
    if stops:
        return int("Cold" in stops)
    return exitcode if isinstance(exitcode, int) else 0
