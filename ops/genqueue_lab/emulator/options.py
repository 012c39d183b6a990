"""How an emulator is started, and the pace that can change while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import msgspec

from genqueue_lab.emulator.faults import Rule  # noqa: TC001 - msgspec reads the annotation
from genqueue_lab.emulator.quotas import Quota

if TYPE_CHECKING:
    from collections.abc import Mapping

Seconds = Annotated[float, msgspec.Meta(ge=0, le=3600)]
Count = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65_535)]

#: Variables of a worker that is to ask an emulator of Gemini and nobody else, whatever else is set on this machine.
NOBODY_ELSE = dict.fromkeys(
    (
        "GENQUEUE_OPENAI_API_KEY",
        "OPENAI_API_KEY",
        "GENQUEUE_OPENAI_BASE_URL",
        "OPENAI_BASE_URL",
        "GENQUEUE_VERTEX_PROJECT",
        "GENQUEUE_VERTEX_BASE_URL",
        "GENQUEUE_VERTEX_CREDENTIALS",
        "GENQUEUE_MODELS_FILE",
    ),
    "",
)


class Pace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How fast and how long answers are.

    Attributes:
        ttft: seconds from the end of the request to the first chunk.
        tpot: seconds between two tokens.
        tokens: tokens of a text answer, before maxOutputTokens cuts it.
        tokens_per_chunk: tokens sent together.
        thoughts: tokens of a thought, when thoughts are asked for.
        processing: seconds until an uploaded file may be used.
    """

    ttft: Seconds = 0.2
    tpot: Seconds = 0.02
    tokens: Count = 40
    tokens_per_chunk: Count = 1
    thoughts: Count = 8
    processing: Seconds = 0.0

    def changed(self, values: Mapping[str, Any]) -> Self:
        """Return a copy with some values replaced; numbers may be text. ValueError names what does not fit."""
        merged = {**msgspec.structs.asdict(self), **values}
        try:
            return msgspec.convert(merged, type(self), strict=False)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from error


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How an emulator is started.

    Attributes:
        host: the address to listen on.
        port: the port to listen on; 0 takes a free one.
        pace: the pace to start with.
        api_key: the only key accepted; None accepts every key that does not start with "wrong" or "invalid".
        directory: where the certificates live.
        ready_file: written once connections are accepted, JSON with url, ca_file and pid.
        max_concurrent_streams: streams a client may have open on one HTTP/2 connection.
        quota: the limits of every key on every model.
        faults: rules in force from the start.
    """

    host: str = "127.0.0.1"
    port: Port = 0
    pace: Pace = Pace()
    api_key: str | None = None
    directory: Path = Path(".genqueue/emulator")
    ready_file: Path | None = None
    max_concurrent_streams: Count = 100
    quota: Quota = Quota()
    faults: tuple[Rule, ...] = ()
