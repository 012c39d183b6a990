"""Parts of Gemini's contents as OpenAI's content parts."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from genqueue_worker.providers.errors import ProviderError

#: Formats of `input_audio` by MIME type.
_AUDIO: Final = {
    "audio/mp3": "mp3",
    "audio/mpeg": "mp3",
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
}

#: What Gemini's media resolutions are as an image's `detail`.
_DETAILS: Final = {"LOW": "low", "MEDIUM": "auto", "HIGH": "high", "UNSPECIFIED": None}

#: Fields of a part besides the one that says what it is, and which say nothing here: signatures are for their author.
_RIDERS: Final = frozenset({"thoughtSignature", "partMetadata", "mediaResolution"})

#: Fields that say what a part is, as far as it can be said.
_SAYABLE: Final = frozenset({"text", "inlineData", "fileData"})

#: Files have a name at OpenAI; what one without is called, before its kind.
_NAME: Final = "file"

#: Hosts whose files nobody but Google's own models can read.
_GOOGLES: Final = "googleapis.com"


def unsupported(path: str, instead: str = "leave it out of the request, or ask a Gemini model") -> ProviderError:
    """Make the error for a field that cannot be said to an OpenAI-compatible API."""
    return ProviderError("unsupported", f"An OpenAI-compatible API takes no {path}; {instead}")


def detail_of(resolution: Any, path: str) -> str | None:
    """Return the `detail` for a media resolution; None for the default. Raises ProviderError `unsupported`."""
    word = str(resolution).removeprefix("MEDIA_RESOLUTION_")
    if word not in _DETAILS:
        raise unsupported(f"{path} {word}")
    return _DETAILS[word]


def content_part(part: Mapping[str, Any], where: str, detail: str | None = None) -> dict[str, Any]:
    """Return the content part of a user's message for a text, inline data or a file.

    Args:
        part: of Gemini's contents.
        where: its path, for errors.
        detail: how closely images are looked at where the part does not say.

    Raises:
        ProviderError: `unsupported`, naming the field that cannot be said.
    """
    if "mediaResolution" in part:
        level = part["mediaResolution"].get("level", "UNSPECIFIED")
        detail = detail_of(level, f"{where}.mediaResolution")
    said = [name for name in part if name not in _RIDERS]
    for name in said:
        if name not in _SAYABLE:
            raise unsupported(f"{where}.{name}")
    if len(said) != 1:
        raise unsupported(f"{where} with {' and '.join(said) or 'nothing in it'}")
    name = said[0]
    if name == "text":
        return {"type": "text", "text": part["text"]}
    given = part[name]
    return (
        _inline(given, f"{where}.{name}", detail) if name == "inlineData" else _file(given, f"{where}.{name}", detail)
    )


def _inline(blob: Mapping[str, Any], where: str, detail: str | None) -> dict[str, Any]:
    kind, data = str(blob.get("mimeType", "")).lower(), blob.get("data", "")
    family = kind.partition("/")[0]
    if family == "image":
        return _image(f"data:{kind};base64,{data}", detail)
    if kind in _AUDIO:
        return {"type": "input_audio", "input_audio": {"data": data, "format": _AUDIO[kind]}}
    if family in ("audio", "video", ""):
        raise unsupported(f"{where} of type {kind or 'unknown'}", "send images, mp3 or wav audio, or documents")
    name = blob.get("displayName") or f"{_NAME}.{kind.rpartition('/')[2]}"
    return {"type": "file", "file": {"filename": name, "file_data": f"data:{kind};base64,{data}"}}


def _file(given: Mapping[str, Any], where: str, detail: str | None) -> dict[str, Any]:
    uri, kind = str(given.get("fileUri", "")), str(given.get("mimeType", "")).lower()
    address = urlsplit(uri)
    if address.scheme != "https" or not kind.startswith("image/") or (address.hostname or "").endswith(_GOOGLES):
        raise unsupported(f"{where} {uri}", "send an image by its https:// address, or the data itself as inlineData")
    return _image(uri, detail)


def _image(url: str, detail: str | None) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url} if detail is None else {"url": url, "detail": detail}}
