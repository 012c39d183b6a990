"""Rules by which the emulator fails: what happens, to which requests, after how much of the answer, how often."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from h2.errors import ErrorCodes

from genqueue_lab.emulator.exchange import Ending  # noqa: TC001 - msgspec reads the annotation

if TYPE_CHECKING:
    from collections.abc import Iterable

Kind = Literal[
    "reset",
    "goaway",
    "disconnect",
    "stall",
    "silence",
    "slow_start",
    "truncate",
    "split_json",
    "error_in_stream",
    "status",
    "region_forbidden",
]

#: What each kind does, for help and documentation.
KINDS: dict[str, str] = {
    "reset": "the stream is reset: RST_STREAM with `code` (INTERNAL_ERROR); HTTP/1.1: the connection is reset",
    "goaway": "GOAWAY with `code` (NO_ERROR) and `last_stream` (this, before, all); the connection is closed at once, "
    "with `graceful` when its streams have ended",
    "disconnect": "the TCP connection ends without a word, `tcp` fin or rst (rst), with all streams on it",
    "stall": "nothing more comes, for `seconds` (for ever); at 0 chunks the head has come",
    "silence": "not even the head comes, for `seconds` (for ever)",
    "slow_start": "the answer begins `seconds` (5) late, or as soon as the rule is taken away",
    "truncate": "the body ends in the middle of a chunk's JSON, in good order; with `whole` between two chunks",
    "split_json": "from here on each chunk comes in many small pieces, cut inside of words and characters",
    "error_in_stream": "an error object (`status`, 429) comes inside of the body and ends it, as bare JSON; with "
    "`data` as an event",
    "status": "an error answer instead of the stream: `status` (503), `retry_info` in its body, `retry_after` as a "
    "header field",
    "region_forbidden": "403: the location may not be used",
}

#: Kinds that strike before there is anything of an answer.
AT_ONCE = frozenset({"silence", "slow_start", "status", "region_forbidden"})

#: Kinds that strike once the answer's head is out, when they strike before the first chunk.
AFTER_HEAD = frozenset({"stall", "truncate", "split_json", "error_in_stream"})

Seconds = Annotated[float, msgspec.Meta(ge=0, le=86_400)]
Number = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Status = Annotated[int, msgspec.Meta(ge=400, le=599)]


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One rule.

    Attributes:
        kind: what happens, see `KINDS`.
        match: text that must occur in the prompt; "" is in all of them.
        model: the model's id; "" is every model.
        after: chunks of the answer that come before it strikes.
        head: whether the answer's head comes first, for a kind that would strike before it.
        times: requests it strikes at most; None is all.
        each: requests of the same prompt it strikes at most; None is all.
        share: the share of matching requests it strikes, 0 to 1, chosen by `seed`.
        seconds: how long a wait lasts; None is for ever (slow_start: 5).
        code: an HTTP/2 error code by name; "" is the kind's own.
        last_stream: GOAWAY says that this stream, only those before it, or all open ones were looked at.
        graceful: after GOAWAY the streams it covers are answered to their end.
        tcp: how the connection ends.
        status: the HTTP status, or the code in an error object; None is the kind's own.
        retry_info: seconds in the error's google.rpc.RetryInfo.
        retry_after: seconds in the answer's Retry-After header field.
        whole: truncate between chunks and not inside of one.
        data: send the error object as a `data:` event and not as bare JSON.
    """

    kind: Kind
    match: str = ""
    model: str = ""
    after: Number = 0
    head: bool = False
    times: Number | None = None
    each: Number | None = None
    share: Share = 1.0
    seed: int = 0
    seconds: Seconds | None = None
    code: str = ""
    last_stream: Literal["this", "before", "all"] = "this"
    graceful: bool = False
    tcp: Ending = "rst"
    status: Status | None = None
    retry_info: Seconds | None = None
    retry_after: Seconds | None = None
    whole: bool = False
    data: bool = False

    def __post_init__(self) -> None:
        """Refuse a code that HTTP/2 does not have, and a number of chunks for what comes before all of them."""
        if self.code and self.code not in ErrorCodes.__members__:
            raise ValueError(f"code {self.code!r} is none of HTTP/2's: {', '.join(ErrorCodes.__members__)}")
        if self.after and self.kind in AT_ONCE:
            raise ValueError(f"after={self.after}: {self.kind} strikes before the answer")

    @classmethod
    def convert(cls, given: Any) -> Rule:
        """Return the rule of a JSON object; numbers may be text. ValueError names what does not fit."""
        if isinstance(given, dict) and (kind := given.get("kind")) not in KINDS:
            raise ValueError(f"kind {kind!r}: expected one of {', '.join(KINDS)}")
        return msgspec.convert(given, cls, strict=False)

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Read the short form `kind;name=value;...`, for headers and the command line; ValueError as `convert`."""
        kind, *fields = [part.strip() for part in text.split(";")]
        pairs = [field.partition("=") for field in fields if field]
        return cls.convert({"kind": kind, **{name.strip(): value.strip() or "true" for name, _, value in pairs}})

    def spell(self) -> str:
        """Return the short form, without what is as by default."""
        given = msgspec.structs.asdict(self).items()
        changed = (f";{name}={value}" for name, value in given if name != "kind" and value != _DEFAULTS[name])
        return self.kind + "".join(changed)


_DEFAULTS = msgspec.structs.asdict(Rule(kind="reset"))


class Standing:
    """A rule in force, and how often it has been used.

    Attributes:
        id: its number.
        taken: requests it was chosen for.
        struck: requests it has struck so far; an answer may be shorter than `after`.
        lifted: set once it is out of force.
    """

    def __init__(self, number: int, rule: Rule) -> None:
        self.id = number
        self.rule = rule
        self.taken = 0
        self.struck = 0
        self.lifted = asyncio.Event()
        self._each: Counter[str] = Counter()
        self._chance = random.Random(rule.seed)  # noqa: S311 - which requests fail is no secret

    def takes(self, prompt: str, fingerprint: str, model: str) -> bool:
        """Say whether it strikes this request, and count it if so."""
        rule = self.rule
        if rule.match not in prompt or rule.model not in ("", model):
            return False
        if rule.times is not None and self.taken >= rule.times:
            return False
        if rule.each is not None and self._each[fingerprint] >= rule.each:
            return False
        if rule.share < 1.0 and self._chance.random() >= rule.share:
            return False
        self.taken += 1
        if rule.each is not None:
            self._each[fingerprint] += 1
        return True

    def describe(self) -> dict[str, Any]:
        """Return the rule with its number and its counts."""
        return {"id": self.id, **msgspec.structs.asdict(self.rule), "taken": self.taken, "struck": self.struck}


class Faults:
    """The rules in force; of those that match a request the first one strikes it."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self._numbers = itertools.count(1)
        self._standing: list[Standing] = []
        self.add(rules)

    def add(self, rules: Iterable[Rule]) -> list[Standing]:
        """Put rules behind those in force and return them."""
        added = [Standing(next(self._numbers), rule) for rule in rules]
        self._standing += added
        return added

    def remove(self, number: int | None = None) -> list[Standing]:
        """Take one rule, or all of them, out of force and return them; answers under way keep theirs.

        But a slow start ends here: so many requests can be held until all of them have come.
        """
        removed = [one for one in self._standing if number in (None, one.id)]
        for one in removed:
            one.lifted.set()
        self._standing = [one for one in self._standing if one not in removed]
        return removed

    def choose(self, prompt: str, fingerprint: str, model: str) -> Standing | None:
        """Return the rule that strikes a request; None for most."""
        return next((one for one in self._standing if one.takes(prompt, fingerprint, model)), None)

    def describe(self) -> list[dict[str, Any]]:
        """Return all rules in force, in their order."""
        return [one.describe() for one in self._standing]
