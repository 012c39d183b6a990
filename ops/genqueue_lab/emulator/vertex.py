"""Vertex AI: the same models under a project and a location, for who shows an access token."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from genqueue_lab.emulator.catalog import MODELS, page
from genqueue_lab.emulator.delivery import Reply
from genqueue_lab.emulator.dialect import Dialect
from genqueue_lab.emulator.errors import (
    permission_denied,
    resource_exhausted,
    unknown_endpoint,
    unknown_published_model,
)
from genqueue_lab.emulator.fields import BOOLEAN, GENERATE, JSON, TEXT, Kind, Many, Mapped, Message

if TYPE_CHECKING:
    from genqueue_lab.emulator.answers import Piece
    from genqueue_lab.emulator.catalog import Model

_PATH: Final = re.compile(
    r"/v1(?:beta1)?/(?P<parent>projects/(?P<project>[^/]+)/locations/[^/]+)/"
    r"(?P<name>publishers/(?P<publisher>[^/]+)/models/(?P<model>[^/:]+)|(?:endpoints|models)/[^/:]+):(?P<method>\w+)"
)

_LISTING: Final = re.compile(r"/v1(?:beta1)?/publishers/google/models")

#: What the names of projects that nobody may use begin with.
_FORBIDDEN: Final = ("wrong", "forbidden")

#: What every endpoint, and every model of one's own, was tuned from; their ids are numbers.
_TUNED: Final = "gemini-2.5-flash"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a request goes: a full resource name, in parts, and a method."""

    parent: str
    project: str
    name: str
    publisher: str | None
    model_id: str | None
    method: str

    @classmethod
    def parse(cls, path: str) -> Address | None:
        """Return the address in a path; None when it is none of Vertex AI's."""
        found = _PATH.fullmatch(path)
        return None if found is None else cls(*found.group("parent", "project", "name", "publisher", "model", "method"))

    def find(self) -> Model:
        """Return the model; raises GoogleError when there is none, or it may not be used."""
        resource = f"{self.parent}/{self.name}"
        if self.project.startswith(_FORBIDDEN):
            raise permission_denied(resource)
        if self.model_id is None:
            if not self.name.rpartition("/")[2].isdecimal():
                raise unknown_endpoint(resource)
            return MODELS[_TUNED]
        if self.publisher != "google" or self.model_id not in MODELS:
            raise unknown_published_model(resource)
        return MODELS[self.model_id]


class VertexReply(Reply):
    """An answer as Vertex AI writes it: with its time, and the kind of traffic in place of the tier."""

    def chunk(self, pieces: list[Piece], *, last: bool) -> dict[str, Any]:
        """Return the next chunk's JSON."""
        chunk = super().chunk(pieces, last=last)
        usage = chunk["usageMetadata"]
        del usage["serviceTier"]
        usage["trafficType"] = "ON_DEMAND"
        return {**chunk, "createTime": dt.datetime.now(dt.UTC).isoformat().replace("+00:00", "Z")}


def is_listing(path: str) -> bool:
    """Whether a path is that of the models Google publishes, which is no project's."""
    return _LISTING.fullmatch(path) is not None


def published(query: dict[str, str]) -> dict[str, Any]:
    """Return one page of the catalog; raises GoogleError for a size or token that is no such thing."""
    listed = page(query)
    models = [{"name": f"publishers/google/{one['name']}", "versionId": one["version"]} for one in listed["models"]]
    return {"publisherModels": models, **{name: value for name, value in listed.items() if name != "models"}}


def _changed(kind: Kind, without: str = "", **changed: Kind) -> Message:
    """Return a message with some fields changed and some taken out."""
    message = kind.kind if isinstance(kind, Many) else kind
    assert isinstance(message, Message)  # noqa: S101 - the tables say so
    return Message(
        message.name, {name: k for name, k in message.fields.items() if name not in without.split()} | changed
    )


def _generate() -> Message:
    """Return what may be asked of Vertex AI: what the Developer API takes, but for what one of them alone has."""
    fields = GENERATE.fields
    content = fields["systemInstruction"]
    assert isinstance(content, Message)  # noqa: S101 - the tables say so
    part = _changed(content.fields["parts"], "toolCall toolResponse partMetadata")
    contents = Message("Content", {"role": TEXT, "parts": Many(part)})
    searches = dict.fromkeys(["retrieval", "enterpriseWebSearch", "parallelAiSearch", "exaAiSearch"], JSON)
    tool = _changed(fields["tools"], "fileSearch mcpServers", **searches)
    config = _changed(
        fields["generationConfig"],
        "enableEnhancedCivicAnswers",
        routingConfig=JSON,
        modelConfig=JSON,
        audioTimestamp=BOOLEAN,
    )
    return _changed(
        GENERATE,
        "store",
        contents=Many(contents),
        systemInstruction=contents,
        tools=Many(tool),
        toolConfig=_changed(fields["toolConfig"], "includeServerSideToolInvocations"),
        generationConfig=config,
        labels=Mapped(TEXT),
        modelArmorConfig=JSON,
        outputConfig=JSON,
    )


_GENERATE: Final = _generate()
_COUNT: Final = Message(
    "CountTokensRequest",
    {name: _GENERATE.fields[name] for name in ("model", "contents", "systemInstruction", "tools", "generationConfig")},
)

VERTEX: Final = Dialect(_GENERATE, _COUNT, VertexReply, lambda _excess, _model: resource_exhausted())
