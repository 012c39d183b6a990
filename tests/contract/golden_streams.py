"""Golden streams: what stands in a stream, and what each reader shows of it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genqueue.events import TERMINAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import redis

    from genqueue.keys import Keys

FOLDER = Path(__file__).parent / "golden"

Fields = dict[str, str]
#: Id, type and fields of one event, as a reader shows it.
Shown = tuple[str, str, Fields]


@dataclass(frozen=True)
class Golden:
    """One golden stream, as its file describes it.

    Attributes:
        says: what it is about.
        after, mark: where its reader starts, and the leave mark of its job.
        steps: what happens, in order: {"entries": {id: fields}} are written; {"shown": id}: the reader has got so far;
            {"lost": [id, ...]}: a crashed server came back without these; {"gone": true}: the stream expired.
        visible: what a reader shows: ids of entries, and a `restarted` that it makes itself with all its fields.
        text: what the answer's text is then, for whoever has the keys.
        end: "ended", or "gone".
        payload_keys: with which pieces are sealed, as in GENQUEUE_PAYLOAD_KEYS.
        opened: by id, the fields that a reader with these keys shows instead.
    """

    name: str
    says: str
    after: str
    mark: str
    steps: list[dict[str, Any]]
    visible: list[str | Fields]
    text: str
    end: str
    payload_keys: str | None = None
    opened: dict[str, Fields] = field(default_factory=dict)

    @property
    def entries(self) -> dict[str, Fields]:
        """Every entry that ever stood in the stream, by id."""
        return {entry: fields for step in self.steps for entry, fields in step.get("entries", {}).items()}

    @property
    def shown(self) -> list[Shown]:
        """What a reader without keys shows."""
        written = self.entries
        return [
            (one, written[one]["type"], written[one]) if isinstance(one, str) else made(**one) for one in self.visible
        ]

    @property
    def shown_opened(self) -> list[Shown]:
        """What a reader with the keys shows."""
        return [(entry, kind, self.opened.get(entry, fields)) for entry, kind, fields in self.shown]

    @property
    def staged(self) -> bool:
        """Whether it matters how far the reader is when something happens."""
        return any("shown" in step for step in self.steps)


def made(id: str, **fields: str) -> Shown:  # noqa: A002 - its name in the files
    """Return an event that no entry stands for."""
    return id, fields["type"], fields


def load() -> dict[str, Golden]:
    """Return every golden stream by name."""
    return {path.stem: Golden(path.stem, **json.loads(path.read_text())) for path in sorted(FOLDER.glob("*.json"))}


class Stage:
    """One stream on a real server, written entry by entry, each with its ring.

    Attributes:
        job: the job whose reader is under test.
        stream: key of the stream.
    """

    def __init__(self, connection: redis.Redis, keys: Keys, mark: str) -> None:
        self._redis, self._keys = connection, keys
        self.job = keys.new_id()
        self.flight = keys.new_id(keys.partition_of_id(self.job))
        self.stream = keys.events(self.flight)
        self._last = "0-0"
        self._mark = mark
        connection.hset(keys.job(self.job), mapping={"flight": self.flight, "mark": mark, "lane": "high"})
        connection.hset(keys.flight(self.flight), mapping={"state": "running"})

    def write(self, entry: str, fields: Mapping[str, str]) -> None:
        """Add an entry and ring the bell, as the scripts do."""
        flat = [text for pair in fields.items() for text in pair]
        with self._redis.pipeline() as together:
            if fields.get("mark") == self._mark and fields["type"] == "left":
                together.hset(self._keys.job(self.job), "left", fields["reason"])
            together.execute_command("XADD", self.stream, entry, *flat)
            together.publish(self._keys.bell(self.flight), json.dumps([self._last, entry, flat]))
            together.execute()
        self._last = entry

    def lose(self, entries: Iterable[str]) -> None:
        """Let a crash have taken the last entries back, which nobody is told about."""
        self._redis.execute_command("XDEL", self.stream, *entries)
        newest = self._redis.execute_command("XREVRANGE", self.stream, "+", "-", "COUNT", 1)
        self._last = newest[0][0].decode()

    def expire(self) -> None:
        """Let the stream's time to live be over."""
        self._redis.delete(self.stream)

    def disturb(self, step: Mapping[str, Any]) -> None:
        """Do what a step says besides writing."""
        if "lost" in step:
            self.lose(step["lost"])
        if "gone" in step:
            self.expire()

    def play(self, golden: Golden) -> None:
        """Do everything that a golden stream says, one after another."""
        for step in golden.steps:
            for entry, fields in step.get("entries", {}).items():
                self.write(entry, fields)
            self.disturb(step)


def visible(entries: Iterable[tuple[str, Fields]], mark: str, after: str = "0-0") -> list[Shown]:
    """Return what a reader with a leave mark shows of a stream's entries: the rules of ops/protocol.md, in plain words.

    Args:
        entries: ids and fields, from the stream's beginning.
        mark: the reader's leave mark.
        after: the id it reads behind.
    """
    entries = list(entries)
    reader = _Reader(mark)
    if after != "0-0":
        reader.resume(dict(entries).get(after))
    ahead = [entry for entry in entries if _order(entry[0]) > _order(after)]
    while ahead and not reader.ended:
        if not reader.take(*ahead.pop(0)):
            ahead, reader = entries.copy(), _Reader(mark, reader.shown, rewound=True)
    return reader.shown


def _order(entry: str) -> tuple[int, ...]:
    return tuple(map(int, entry.split("-")))


@dataclass
class _Reader:
    """What a reader remembers of a stream, and what it has shown."""

    mark: str
    shown: list[Shown] = field(default_factory=list)
    rewound: bool = False
    attempt: str = "0"
    n: float = 0
    run: str | None = None
    ended: bool = False

    def resume(self, behind: Fields | None) -> None:
        """Begin behind an entry; None: it is not there."""
        if behind is None:
            self.attempt, self.n = "unknown", math.inf
        else:
            numbered = behind["n"] != "0" or behind["type"] in {"restarted", "continued"}
            self.attempt, self.n, self.run = behind["attempt"], int(behind["n"]) if numbered else -1, behind.get("run")

    def goes_on(self, attempt: int, n: int) -> bool:
        """Return whether what was shown ends with an attempt's entry of this number, as far as is known."""
        return self.rewound or self.attempt == "0" or self.n == -1 or (self.attempt, self.n) == (str(attempt), n)

    def take(self, entry: str, fields: Fields) -> bool:
        """Read the next entry; returns whether to go on, not from the beginning."""
        kind, attempt, n = fields["type"], fields["attempt"], int(fields["n"])
        lost = {"type": "restarted", "v": "1", "attempt": attempt, "n": "0", "reason": "lost"}
        if kind == "left" and fields["mark"] != self.mark:
            return True
        if kind == "continued" and not self.goes_on(int(attempt) - 1, int(fields["kept"])):
            self.shown.append(("0-0", "restarted", lost))
            return False
        if kind in {"restarted", "continued"}:
            self.attempt, self.n = attempt, 0
        if kind == "started" and fields["run"] != self.run:
            if self.n > 1:
                self.shown.append((entry, "restarted", lost))
            self.run = fields["run"]
        elif n > 0 and attempt == self.attempt and n <= self.n:
            return True
        elif n > 1 and self.attempt not in {attempt, "0"} and not self.rewound:
            self.shown.append(("0-0", "restarted", lost))
            return False
        if n > 0:
            self.attempt, self.n = attempt, n
        self.shown.append((entry, kind, fields))
        self.ended = kind in TERMINAL or kind == "left"
        return True


def text_of(shown: Iterable[Shown]) -> str:
    """Return the answer's text as far as it was shown."""
    text = ""
    for _, kind, fields in shown:
        if kind == "restarted":
            text = ""
        elif kind == "delta":
            text += fields.get("text", "")
    return text
