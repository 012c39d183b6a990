"""A data server, a broker and a worker in this process's memory: the real scripts on fakeredis, and a clock to move."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from genqueue.errors import MissingExtra
from genqueue.keys import Keys
from genqueue.payload.codec import codec_of
from genqueue.reading.bells import Inbox
from genqueue.scripts import RESERVE, SUBMIT
from genqueue.steps import Publish, Query, Read, Run, RunMany, Work
from genqueue.testing.player import Player
from genqueue.testing.recorded import Recorded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genqueue.ledger import Publication
    from genqueue.reading.bells import Signal
    from genqueue.scripts import Call
    from genqueue.settings import Settings
    from genqueue.steps import Listen, Step
    from genqueue.testing.script import Answer

try:
    import fakeredis
    import lupa  # noqa: F401 - without it fakeredis runs no scripts, and says so late
except ImportError as missing:
    raise MissingExtra("testing", "fakeredis[lua]") from missing

#: Version of the Redis commands that the scripts need.
_VERSION: Final = (7,)

#: In front of each script, for what fakeredis answers otherwise than Redis does: the text of an error is no Lua string,
#: a stream that is not there is not said to lack the group, and XREADGROUP's pairs of stream and entries come flat.
_PRELUDE: Final = """
local redis = setmetatable({pcall = function(command, ...)
  local reply = redis.pcall(command, ...)
  if type(reply) ~= 'table' then return reply end
  if reply.err then
    reply.err = string.gsub(tostring(reply.err), 'The XGROUP subcommand requires the key', 'NOGROUP No such key')
  elseif command == 'XREADGROUP' and type(reply[1]) == 'string' then
    return {reply}
  end
  return reply
end}, {__index = redis})
"""


class MemoryServer:
    """Holds what a deployment's servers and workers hold; several clients may share it, on any thread or loop.

    Args:
        settings: of the deployment.

    Attributes:
        settings: as given.
        keys: spells the deployment's keys.
        codec: opens what is stored, and seals it.
        redis: a redis client of the data server, to look at what is stored.
        waiting: what is to be taken at `release`.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keys = Keys(settings.key_prefix, settings.partitions)
        self.codec = codec_of(settings)
        self.redis = _fake_redis()
        self._ahead_ms = 0
        self._player = Player(self.run, self.keys, self.codec, self.now_ms)
        self._recorded: dict[str, Recorded] = {}
        self._starters: dict[str, Recorded] = {}
        self.waiting: list[Publication] = []
        self._holding = False
        # One at a time, whoever publishes; a script's function may submit in its turn.
        self._stage = threading.RLock()
        self._inboxes: set[Inbox] = set()
        self._ringing = threading.Lock()
        self._bells = self.redis.pubsub(ignore_subscribe_messages=True)
        self._bells.psubscribe(f"{self.keys.prefix}:*:bell:*")

    @property
    def requests(self) -> list[Recorded]:
        """Every job that was submitted, oldest first."""
        return list(self._recorded.values())

    @property
    def default(self) -> Answer:
        """What is said when nothing is scripted."""
        return self._player.default

    @default.setter
    def default(self, answer: Answer) -> None:
        self._player.default = answer

    def script(self, *answers: Answer) -> None:
        """Add answers for the next flights, one each."""
        self._player.script(*answers)

    def hold(self) -> None:
        """Take no more flights until `release`: jobs stay queued."""
        self._holding = True

    def release(self) -> None:
        """Go on with every script that holds, to its next hold, and take the flights that wait."""
        with self._stage:
            self._player.release()
            self._holding = False
            waiting, self.waiting = self.waiting, []
            for publication in waiting:
                self._take(publication)

    def now(self) -> float:
        """Return the server's time, in seconds since 1970."""
        return self.now_ms() / 1000

    def now_ms(self) -> int:
        """Return the server's time, in ms since 1970."""
        return int(time.time() * 1000) + self._ahead_ms

    def advance(self, seconds: float) -> None:
        """Let time pass: retries come up, deadlines pass, keys expire, each at its moment."""
        with self._stage:
            end = self.now_ms() + int(seconds * 1000)
            while (moment := self._next_look()) is not None and moment <= end:
                self._pass(max(1, moment + 1 - self.now_ms()))
                for partition in range(self.keys.partitions):
                    if self.redis.exists(self.keys.slot(partition) + "ledger"):
                        self._publish(self._player.sweep(partition, self.now_ms()))
            self._pass(max(0, end - self.now_ms()))

    def execute(self, step: Step) -> Any:
        """Carry out a step that does not wait, and return its reply."""
        match step:
            case Run(call):
                return self.run(call)
            case RunMany(calls):
                return [self._attempt(call) for call in calls]
            case Query(commands) | Read(commands):
                return [self._command(command) for command in commands]
            case Publish(publications):
                with self._stage:
                    return self._publish(publications)
            case Work(call):
                return call()
            case _:
                raise TypeError(f"{step} waits: it is the connection's to carry out")

    def listen(self, step: Listen, signal: Signal) -> Inbox:
        """Return an inbox that is rung from now on."""
        inbox = Inbox(step.channels, signal, ends_only=step.ends_only, leave=self._inboxes.discard)
        self._inboxes.add(inbox)
        for channel in step.channels:
            inbox.confirm(channel)
        return inbox

    def run(self, call: Call) -> Any:
        """Run a script and return its reply."""
        if call.script is SUBMIT:
            self._note(Recorded.of(call, self.codec))
        args = call.args
        if call.script is not RESERVE and args and args[0] == 0:
            args = (self.now_ms(), *args[1:])  # 0 is the server's clock, which fakeredis takes from the machine
        # fakeredis does not know the first line, `#!lua ...`.
        source = _PRELUDE + call.script.source.partition("\n")[2]
        reply = self.redis.eval(source, len(call.keys), *call.keys, *args)
        self._ring()
        return reply

    def _attempt(self, call: Call) -> Any:
        try:
            return self.run(call)
        except RedisError as error:
            return error

    def _ring(self) -> None:
        """Pass on what the scripts have published."""
        with self._ringing:
            while (message := self._bells.get_message(timeout=0)) is not None:
                channel = message["channel"].decode()
                for inbox in list(self._inboxes):
                    if channel in inbox.channels:
                        inbox.put(channel, message["data"])

    def _note(self, recorded: Recorded) -> None:
        self._recorded.setdefault(recorded.job_id, recorded)

    def _command(self, command: tuple[str | int, ...]) -> Any:
        if command == ("TIME",):
            milliseconds = self.now_ms()
            return milliseconds // 1000, milliseconds % 1000 * 1000
        reply: Any = self.redis.execute_command(*command)
        # Redis, spoken to as connections do, puts scores between the members; fakeredis makes pairs.
        nested = "WITHSCORES" in command and any(isinstance(item, (list, tuple)) for item in reply)
        return [value for pair in reply for value in pair] if nested else reply

    def _publish(self, publications: Sequence[Publication]) -> None:
        for publication in publications:
            if self._holding:
                self.waiting.append(publication)
            else:
                self._take(publication)

    def _take(self, publication: Publication) -> None:
        jobs = self.redis.zrange(f"{self.keys.slot_of_id(publication.flight)}members:{publication.flight}", 0, -1)
        aboard = {job.decode() for job in jobs}
        request = next((found for job_id, found in self._recorded.items() if job_id in aboard), None)
        if request is not None:  # without a member nobody wants the answer
            self._player.take(publication, request)

    def _next_look(self) -> int | None:
        """Return the first moment at which the ledger must be looked at, in ms."""
        ledgers = (self.keys.slot(partition) + "ledger" for partition in range(self.keys.partitions))
        first = [item for name in ledgers for item in self.redis.zrange(name, 0, 0, withscores=True)]
        return min((int(moment) for _, moment in first), default=None)

    def _pass(self, milliseconds: int) -> None:
        """Move the clock; every key has that much less to live."""
        self._ahead_ms += milliseconds
        for key in list(self.redis.scan_iter()):
            left = self.redis.pttl(key)
            if left > 0:
                self.redis.pexpire(key, left - milliseconds)


def _fake_redis() -> Any:
    return fakeredis.FakeRedis(server=fakeredis.FakeServer(version=_VERSION))
