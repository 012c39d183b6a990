"""A worker with the mechanisms of its fast path switched off, for the control of the throughput benchmark.

`python -m genqueue_lab.bench.hampered NAME,NAME... ARGUMENT...` runs Celery's command line on the worker's app as it
is, but for those mechanisms.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final

from celery.__main__ import main as celery
from google.genai import types

from genqueue import ledger
from genqueue_lab.bench.unpooled import unpool
from genqueue_worker.courier import Courier
from genqueue_worker.providers import gemini_stream, gemini_wire

if TYPE_CHECKING:
    from collections.abc import Callable

MECHANISMS: Final[dict[str, Callable[[], None]]] = {}


def _batches() -> None:
    """Write each entry alone and wait for its answer, instead of all that has come in one pipeline."""

    async def carry(courier: Any, asked: list[Any], dirty: list[Any]) -> bool:
        ready = True
        for one in asked:
            ready = await pipeline(courier, [one], []) and ready
        for attempt in dirty:
            ready = await pipeline(courier, [], [attempt]) and ready
        return ready

    def append(courier: Any, attempt: Any) -> Any:
        unsent = attempt.unsent()
        return ledger.append(courier._keys, unsent.flight, unsent.token, unsent.first, unsent.entries[:1])  # noqa: SLF001

    pipeline = Courier._carry  # noqa: SLF001
    setattr(Courier, "_carry", carry)  # noqa: B010
    setattr(Courier, "_append", append)  # noqa: B010


def _decoding() -> None:
    """Have google-genai parse each chunk, as it would in its own client, besides what is done with it here."""

    def parsed(event: bytes) -> Any:
        types.GenerateContentResponse._from_response(response=json.loads(event), kwargs={})  # noqa: SLF001
        return decode(event)

    decode = gemini_wire.decode_chunk
    setattr(gemini_stream, "decode_chunk", parsed)  # noqa: B010


MECHANISMS["batches"] = _batches
MECHANISMS["decoding"] = _decoding
MECHANISMS["connections"] = unpool


def main(names: str, *arguments: str) -> None:
    """Switch mechanisms off and run Celery's command line."""
    for name in names.split(","):
        MECHANISMS[name]()
    sys.argv = ["celery", *arguments]
    celery()


if __name__ == "__main__":
    main(*sys.argv[1:])
