"""A worker with one mechanism switched off, for the controls of the drills.

`python -m genqueue_lab.drill.disarmed MECHANISM ARGUMENT...` runs Celery's command line on the worker's app as it is,
but for that one mechanism.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, Final

from celery.__main__ import main as celery

from genqueue import ledger
from genqueue.scripts import Call, Script
from genqueue_worker import attempt, courier, outcome, runner, sweeper

if TYPE_CHECKING:
    from collections.abc import Callable

    from genqueue.ledger import Settlement

#: What one would first think of to write entries: whoever has some appends them. No token, no numbers, no NOMKSTREAM.
_APPEND: Final = Script.of(
    "append",
    """#!lua flags=allow-oom
local key = KEYS[1] .. 'flight:' .. ARGV[1]
local at = 5
for number = ARGV[3], ARGV[3] + ARGV[4] - 1 do
  local entry = redis.call('XADD', KEYS[1] .. 'events:' .. ARGV[1], '*', 'v', '1', 'attempt', ARGV[2], 'n', number,
    unpack(ARGV, at + 1, at + ARGV[at]))
  redis.call('PUBLISH', KEYS[1] .. 'bell:' .. ARGV[1], cjson.encode({'0-0', entry, false}))
  at = at + ARGV[at] + 1
end
local written = ARGV[3] + ARGV[4] - 1
if redis.call('HGET', key, 'attempt') == ARGV[2] then redis.call('HSET', key, 'written', written, 'delta', 1) end
return {'ok', written}
""",
)


def sweep() -> None:
    """Nobody looks after the ledger: what a worker leaves behind stays."""

    async def never(_: sweeper.Sweeper) -> None:
        await asyncio.Event().wait()

    _put(sweeper.Sweeper, "run", never)


def fence() -> None:
    """Entries are appended as one would first think of, and nobody learns that his token is void."""

    def append(self: courier.Courier, writing: attempt.Attempt) -> Call:
        unsent = writing.unsent()
        flat: list[str | bytes | int] = []
        for entry in unsent.entries:
            pairs = [str(part) for pair in entry.items() for part in pair]
            flat += [len(pairs), *pairs]
        keys = self._keys
        args = (unsent.flight, writing.facts.attempt, unsent.first, len(unsent.entries), *flat)
        return Call(_APPEND, (keys.slot_of_id(unsent.flight),), args)

    _put(courier.Courier, "_append", append)
    _put(attempt.Attempt, "refuse", lambda _: None)


def hand_back() -> None:
    """What a worker breaks off at its end is handed back to nobody."""
    settlement = outcome.settlement

    def silent(found: outcome.Outcome, unsent: outcome.Unsent) -> Settlement | None:
        return None if isinstance(found, outcome.Interrupted) else settlement(found, unsent)

    _put(runner, "settlement", silent)


def patience() -> None:
    """What cannot be written or settled at once is given up."""
    _put(runner, "CLAIM_PATIENCE", 0.0)
    _put(runner, "SETTLE_PATIENCE", 0.0)


def suspects() -> None:
    """Every flight runs in the worker's own process, and counts as alone there."""
    claim = ledger.Claim
    _put(runner, "Claim", lambda *args, **named: claim(*args, **{**named, "alone": True}))


MECHANISMS: Final[dict[str, Callable[[], None]]] = {
    "sweep": sweep,
    "fence": fence,
    "hand_back": hand_back,
    "patience": patience,
    "suspects": suspects,
}


def _put(owner: Any, name: str, value: object) -> None:
    """Replace what is there; raises AttributeError when it is not, lest a control switches nothing off."""
    getattr(owner, name)
    setattr(owner, name, value)


def main(mechanism: str, *arguments: str) -> None:
    """Switch a mechanism off and run Celery's command line."""
    MECHANISMS[mechanism]()
    sys.argv = ["celery", *arguments]
    celery()


if __name__ == "__main__":
    main(*sys.argv[1:])
