"""The process of one series: it sends a planned load its way and tells what its readers saw.

`python -P -m genqueue_lab.bench.driver MODULE`, in the environment of the series, with `ops` on the module path. The
module has `series(config)`, which returns an asynchronous context manager that gives a Series. What it is told comes as
lines of JSON: first the config, then plans; each is answered with a line, a recording or what went wrong.

One event loop, uvloop where there is one, as under most ASGI servers.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import sys
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

from genqueue_lab.bench import load

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager


def main(module: str) -> None:
    """Carry out what comes on the standard input, until it ends."""
    # Whatever else prints must not end up among the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_drive(importlib.import_module(module), answers))


def _loop_factory() -> Any:
    with suppress(ImportError):
        import uvloop  # noqa: PLC0415 - not every environment has it

        return uvloop.new_event_loop
    return None


async def _drive(module: Any, answers: IO[str]) -> None:
    made: AbstractAsyncContextManager[load.Series] = module.series(await _told())
    async with made as series:
        _say(answers, {"ready": True})
        while (told := await _told()) is not None:
            gc.collect()
            gc.freeze()  # what the last round left must not be walked through in this one
            recording = await load.run(series, load.Plan(tuple(told["offsets"]), told["prefix"]))
            _say(answers, recording.as_json())


async def _told() -> Any:
    """Return the next line's JSON; None at the end of the input."""
    line = await asyncio.to_thread(sys.stdin.readline)
    return json.loads(line) if line else None


def _say(answers: IO[str], answer: dict[str, Any]) -> None:
    print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
