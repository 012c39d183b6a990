"""The group of commands: each is imported when it is called, and each error is a line."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from genqueue.cli.commands import COMMANDS, load
from genqueue.errors import GenqueueError, InvalidRequest, MissingExtra, SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Exit statuses: what was asked for did not come about, the call is wrong, Ctrl-C.
FAILED = 1
MISUSED = 2
INTERRUPTED = 130


#: What writing to a stdout that is closed, or on a full or broken disk, ends with. Of a pipe that nobody reads any more
#: click makes a silent end, as is usual.
_UNWRITABLE = frozenset({errno.EBADF, errno.EFBIG, errno.EIO, errno.ENOSPC})


class LazyGroup(click.Group):
    """A group that knows its commands' names and help without importing them."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command line; a stdout that takes nothing becomes a line on stderr."""
        try:
            return super().main(*args, **extra)
        except OSError as error:
            if error.errno not in _UNWRITABLE:
                raise
            _abandon_stdout()
            click.echo(f"error: {error.strerror or error}", err=True)
            sys.exit(FAILED)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None when there is none of that name."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        try:
            return load(entry)
        except MissingExtra:
            if ctx.resilient_parsing:  # the shell asks for completions
                return None
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; errors become lines on stderr and an exit status."""
        _keep_standard_streams()
        _tolerate(sys.stdout, sys.stderr)
        try:
            return super().invoke(ctx)
        except GenqueueError as error:
            for line in lines_of(error):
                click.echo(f"error: {line}", err=True)
            ctx.exit(status_of(error))
        except click.UsageError:
            raise  # click shows how it is used
        except click.ClickException as error:
            click.echo(f"error: {error.format_message()}", err=True)
            ctx.exit(FAILED)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


def lines_of(error: GenqueueError) -> Sequence[str]:
    """Return an error as lines: one, or one for each setting that is wrong."""
    problems = error.problems if isinstance(error, SettingsError) else (str(error),)
    return [" ".join(problem.split()) for problem in problems]


def status_of(error: GenqueueError) -> int:
    """Return the exit status for an error."""
    return MISUSED if isinstance(error, (InvalidRequest, SettingsError)) else FAILED


def _keep_standard_streams() -> None:
    """Put nothing in the place of standard streams that were closed, lest a socket gets their number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def _abandon_stdout() -> None:
    """Drop what stdout did not take: Python would try, and complain, once more at its end."""
    if sys.stdout is not None:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tolerate(*streams: object) -> None:
    """Let streams print a question mark for what their encoding lacks."""
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="genqueue", message="%(prog)s %(version)s")
def main() -> None:
    """Queue LLM generation on priority lanes and follow the answers as they are written.

    Servers and the provider's key come from GENQUEUE_* environment variables; `genqueue doctor` checks them.
    """
