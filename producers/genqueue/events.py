# ruff: noqa: E501 - the table of events is wide
"""The events of a flight's stream: a public contract, readable by a plain XREAD in any language.

| type       | fields                                                | means                                         |
|------------|-------------------------------------------------------|-----------------------------------------------|
| queued     | deadline (ms since 1970)                              | accepted; first entry of every stream         |
| waiting    | reason, until (ms since 1970), code                   | nobody works on it before `until`             |
| started    | route, model, run (differs with each claim)           | an attempt began                              |
| delta      | text                                                  | a piece of the answer                         |
| thought    | text                                                  | a piece of the model's thinking               |
| part       | about, json                                           | anything else, as the provider sent it        |
| restarted  | reason                                                | another attempt begins: discard what came     |
| continued  | reason, kept                                          | another attempt begins, and goes on from it   |
| left       | mark, reason                                          | the job with that leave mark left: its end    |
| completed  | finish_reason, usage, timings, source, model, perhaps fallback_from, continued | the answer is whole |
| failed     | code, message, retryable, perhaps prompt_feedback     | no answer; why the prompt was blocked (JSON)  |
| cancelled, expired |                                               | no answer                                     |

What the JSON of a `part` is, its `about` says:

- "part": a whole part of the model's turn (a function call, inline data, an empty text with a signature, ...);
- "text": fields of the text piece immediately before it, such as `thoughtSignature`; that piece is a part of its own;
- "candidate": something about the whole answer (`citationMetadata`, `groundingMetadata`, `safetyRatings`, ...);
- "prompt": why the prompt was blocked.

The `continued` of a `completed` says how often the answer was gone on from, its `fallback_from` which model was asked
for when another answered.

The `kept` of a `continued` is the highest `n` of the attempt before it. Who was shown another one was shown what the
server then forgot.

A server that crashed may come back without what was shown. Then readers put a `restarted` of their own (reason `lost`)
in front of what comes instead. Its id is the one to resume behind: that of the `started` after it, or 0-0.

Every entry also has `v` (1), `attempt` and `n` (number within the attempt, from 1; 0 for entries nobody's attempt wrote).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Version of the event contract.
VERSION: Final = 1

_NUMBER: Final = re.compile(r"[0-9]{1,18}")

#: Types that end a stream; exactly one, the last entry.
TERMINAL: Final = frozenset({"completed", "failed", "cancelled", "expired"})


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a flight's stream.

    Attributes:
        id: the entry's stream id; pass it to `tail(after=...)` to resume behind it.
        type: see the table above.
        attempt: number of the attempt that wrote it, for display.
        n: its number within the attempt.
        fields: every field as text, as it stands in the stream.
    """

    id: str
    type: str
    attempt: int = 0
    n: int = 0
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str | None:
        """Text of a `delta`; None for every other type."""
        return self.fields.get("text", "") if self.type == "delta" else None

    @property
    def thought(self) -> str | None:
        """Text of a `thought`; None for every other type."""
        return self.fields.get("text", "") if self.type == "thought" else None

    @property
    def part(self) -> Any:
        """Decoded JSON of a `part`; None for every other type."""
        return json.loads(self.fields.get("json", "null")) if self.type == "part" else None

    @property
    def about(self) -> str | None:
        """What the JSON of a `part` is: "part", "text", "candidate" or "prompt"; None for every other type."""
        return self.fields.get("about", "part") if self.type == "part" else None

    @property
    def terminal(self) -> bool:
        """Whether this entry ends the stream."""
        return self.type in TERMINAL

    def ends(self, mark: str) -> bool:
        """Return whether this entry is the last one for the job with this leave mark."""
        return self.terminal or (self.type == "left" and self.fields.get("mark") == mark)


def decode(entry_id: bytes | str, raw: Mapping[bytes, bytes]) -> Event:
    """Return the event of one stream entry; unknown types and fields are kept as they are."""
    fields = {name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, value in raw.items()}
    return of_fields(entry_id.decode() if isinstance(entry_id, bytes) else entry_id, fields)


def of_fields(entry_id: str, fields: Mapping[str, str]) -> Event:
    """Return the event with these fields; unknown ones are kept as they are."""
    return Event(
        id=entry_id,
        type=fields.get("type", ""),
        attempt=number(fields.get("attempt")),
        n=number(fields.get("n")),
        fields=fields,
    )


def number(text: str | None) -> int:
    """Return the number that a field holds; 0 for what is none."""
    return int(text) if text and _NUMBER.fullmatch(text) else 0


def text_of(events: Iterable[Event]) -> str:
    """Return the answer's text so far: deltas joined, across `continued`; what a `restarted` discards left out."""
    pieces: list[str] = []
    for event in events:
        if event.type == "restarted":
            pieces.clear()
        elif event.type == "delta":
            pieces.append(event.fields.get("text", ""))
    return "".join(pieces)
