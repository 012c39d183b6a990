"""What a flight has shown of its answer, for an attempt that goes on from it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from genqueue.errors import PayloadUnreadable
from genqueue.events import decode
from genqueue_worker.documents import Unreadable

if TYPE_CHECKING:
    from collections.abc import Mapping

    import redis.asyncio

    from genqueue.keys import Keys
    from genqueue.payload.codec import Codec
    from genqueue_worker.providers.seam import ProviderRequest

#: Entries one read of the stream fetches.
PAGE: Final = 500

#: Seconds a read is tried while the server is away, and between two tries.
PATIENCE: Final = 30.0
RETRY: Final = 0.2

#: What the model is told when it is to go on.
GO_ON: Final = (
    "Your answer above was cut off by a lost connection. Continue it from exactly where it stops, beginning with the "
    "very next character. Repeat nothing of it, and say nothing about the interruption."
)


@dataclass(frozen=True, slots=True)
class Shown:
    """The text that readers have and keep.

    Attributes:
        text: what earlier attempts said, joined.
        continued: how often it was gone on from, this attempt included; 0 when there is no text.
    """

    text: str = ""
    continued: int = 0


#: For an attempt that begins at the beginning.
NOTHING: Final = Shown()


@dataclass(frozen=True, slots=True)
class Streams:
    """The streams of a deployment's flights."""

    data: redis.asyncio.Redis
    keys: Keys
    codec: Codec

    async def shown(self, flight: str) -> Shown:
        """Return what a flight's stream shows since its last `restarted`.

        Raises:
            Unreadable: no key here opens an entry.
            redis.exceptions.RedisError, OSError: the data server stays away.
        """
        texts: list[str] = []
        continued, after = 0, "-"
        while entries := await self._page(flight, after):
            for entry_id, raw in entries:
                event = decode(entry_id, raw)
                match event.type:
                    case "restarted":
                        texts.clear()
                        continued = 0
                    case "continued":
                        continued += 1
                    case "delta":
                        texts.append(self._text(event.fields))
            after = f"({entries[-1][0].decode()}"
        text = "".join(texts)
        return Shown(text, max(continued, 1)) if text else NOTHING

    async def request(self, flight: str) -> bytes:
        """Return what a flight asks for, as it is stored; empty without such a flight. Raises what redis raises."""
        found: Any = await self.data.hget(self.keys.flight(flight), "request")
        return found or b""

    async def _page(self, flight: str, after: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
        give_up = time.monotonic() + PATIENCE
        while True:
            try:
                found: Any = await self.data.xrange(self.keys.events(flight), after, "+", PAGE)
            except (RedisError, OSError):
                if time.monotonic() >= give_up:
                    raise
            else:
                return list(found)
            await asyncio.sleep(RETRY)

    def _text(self, fields: Mapping[str, str]) -> str:
        try:
            return self.codec.open_entry(fields).get("text", "")
        except PayloadUnreadable as error:
            raise Unreadable(str(error), elsewhere=True) from error


def going_on(request: ProviderRequest, shown: Shown) -> ProviderRequest:
    """Return the request that asks the model to go on from what is shown; the same one when nothing is."""
    if not shown.text:
        return request
    said = {"role": "model", "parts": [{"text": shown.text}]}
    asked = {"role": "user", "parts": [{"text": GO_ON}]}
    return replace(request, contents=[*request.contents, said, asked])
