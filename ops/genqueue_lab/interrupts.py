"""What Ctrl-C, SIGTERM and a closed terminal mean: the first one stops, one during the stop kills."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

#: What asks a command to end. SIGHUP is what its terminal sends when it closes.
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Handles the signals of a command that has processes to end; made on the main thread.

    The first signal raises KeyboardInterrupt. No other ever does, to the end of the process: whoever stops has things
    to put away, which a third Ctrl-C must not leave behind. Each calls what `kill_with` was given.
    """

    def __init__(self) -> None:
        self._stopping = False
        self._kill: Callable[[], object] = lambda: None
        self._stop: Callable[[], object] = _raise
        for number in _SIGNALS:
            # nohup asks to outlive the terminal; a shell has SIGINT ignored in what it runs in the background
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._handle)

    def kill_with(self, kill: Callable[[], object]) -> None:
        """Call `kill` for signals that come during the stop."""
        self._kill = kill

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine on a loop; the first signal cancels it, and is then a KeyboardInterrupt here.

        Raised in the middle of a task it would be kept there too, and shown by asyncio as one that nobody looked at.
        """

        async def cancellable() -> None:
            loop, task = asyncio.get_running_loop(), asyncio.current_task()
            assert task is not None  # noqa: S101 - a coroutine runs in a task
            self._stop = lambda: loop.call_soon_threadsafe(task.cancel)
            try:
                await work
            finally:
                self._stop = _raise

        try:
            asyncio.run(cancellable())
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None

    def stopping(self) -> None:
        """Note that the stop has begun, whatever began it."""
        self._stopping = True

    def over(self) -> None:
        """Ignore signals from now on: all is put away, and the exit status is to be the command's own."""
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def _handle(self, *_: object) -> None:
        # Nothing is called between the test and the mark, so that no second signal is handled in between.
        if not self._stopping:
            self._stopping = True
            self._stop()
        else:
            self._kill()


def _raise() -> NoReturn:
    raise KeyboardInterrupt
