"""The `genqueue` command, silent under Ctrl-C from its first moment: what takes time is imported when it is called."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genqueue.cli.group import main

__all__ = ["main", "run"]


def run() -> None:
    """Run the command; Ctrl-C before it is loaded ends the process at once."""
    # Whoever starts it in the background has set SIGINT to be ignored, and that stays.
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from genqueue.cli.group import main as command  # noqa: PLC0415 - only once Ctrl-C is seen to

    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command()


def __getattr__(name: str) -> Any:
    if name != "main":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from genqueue.cli.group import main as command  # noqa: PLC0415 - as above

    return command
