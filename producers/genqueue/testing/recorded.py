"""What was submitted, as a test looks at it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

from genqueue.ledger.entries import text

if TYPE_CHECKING:
    from genqueue.lanes import Lane
    from genqueue.payload.codec import Codec
    from genqueue.scripts import Call


@dataclass(frozen=True, slots=True)
class Recorded:
    """One job that was submitted, whether or not somebody had to generate its answer.

    Attributes:
        job_id: its id.
        lane: the lane it was submitted to.
        tenant: on whose behalf.
        deadline: seconds since 1970.
        cache: "use", "refresh" or "off".
        on_interrupt: "restart", "continue" or "fail".
        replayed_from: the job that it repeats; None without one.
        model: the model asked for.
        contents: what was asked, Gemini-shaped.
        system_instruction: Gemini-shaped; None without one.
        config: the generation config, as it is stored.
        document: the whole request, as it is stored.
    """

    job_id: str
    lane: Lane
    tenant: str
    deadline: float
    cache: str
    model: str
    contents: list[dict[str, Any]]
    system_instruction: dict[str, Any] | None
    config: dict[str, Any]
    document: dict[str, Any]
    on_interrupt: str = "restart"
    replayed_from: str | None = None

    @property
    def prompt(self) -> str:
        """Every text of the contents, joined by line ends."""
        parts = (part for content in self.contents for part in content.get("parts", ()))
        return "\n".join(part["text"] for part in parts if "text" in part)

    @classmethod
    def of(cls, call: Call, codec: Codec) -> Self:
        """Return what a call of the script `submit` asks for; the head of submit.lua has the order of its arguments."""
        _, job, _, _, lane, deadline_ms, tenant, _, cache, request, *_ = call.args
        stored = request if isinstance(request, bytes) else text(request).encode()
        document = json.loads(codec.open("request", stored))
        return cls(
            job_id=text(job),
            lane=cast("Lane", text(lane)),
            tenant=text(tenant),
            deadline=int(deadline_ms) / 1000,
            cache=text(cache),
            model=document["model"],
            contents=document["contents"],
            system_instruction=document.get("system_instruction"),
            config=document.get("config", {}),
            document=document,
            on_interrupt=text(call.args[20]),
            replayed_from=text(call.args[21]) or None,
        )
