"""How a worker's memory is given back: large blocks to the system, and what goes in circles to itself."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress
from typing import Final

#: glibc's name for the size from which a block is mapped on its own, and that size in bytes.
_MMAP_THRESHOLD: Final = -3
LARGE_BLOCK: Final = 1024 * 1024

#: Objects more than before after which the youngest are looked at.
GENERATION: Final = 10_000


def return_large_blocks() -> None:
    """Map large blocks on their own, so that a document's memory is the system's again once it is freed.

    By itself glibc raises the size from which it does so to that of the largest block it has seen freed, up to 32 MB:
    after the first prompt of 4 MB such blocks come from the heap, and stay there as holes. 28 answers to prompts of
    4 MB under way at once, none of which was still in use: 54 MB without this, 7 MB with it.
    """
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, LARGE_BLOCK)


def collect_seldom() -> None:
    """Look for objects that only refer to each other less often, and among what a worker has from the start never.

    Python looks each time 700 more objects are there, at all of them at times: a fourteenth of all a worker did, and
    hardly anything of a worker's goes in circles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GENERATION)
