"""What Ctrl-C and SIGTERM mean: the first one stops, one during the stop kills."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def terminate_like_interrupt() -> None:
    """Let SIGTERM raise KeyboardInterrupt as Ctrl-C does, also where the shell has SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


@contextmanager
def killing(kill: Callable[[], object]) -> Iterator[None]:
    """Call `kill` for every Ctrl-C and SIGTERM while the block runs; the block itself is not interrupted."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: kill()) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
