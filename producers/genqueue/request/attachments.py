"""Images, audio and files of OpenAI's content parts as Gemini's `inlineData` and `fileData`."""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from genqueue.errors import InvalidRequest
from genqueue.request.names import opened

_AUDIO = {"mp3": "audio/mp3", "wav": "audio/wav"}

#: What a file is by its name: Python's own table, as a machine's would make the same file another question elsewhere.
_KINDS = mimetypes.MimeTypes()
_KINDS.types_map[True].update(
    {
        ".3gp": "video/3gpp",
        ".aac": "audio/aac",
        ".aiff": "audio/aiff",
        ".avi": "video/avi",
        ".avif": "image/avif",
        ".flac": "audio/flac",
        ".flv": "video/x-flv",
        ".heic": "image/heic",
        ".heif": "image/heif",
        ".m4a": "audio/m4a",
        ".md": "text/markdown",
        ".mp3": "audio/mp3",
        ".ogg": "audio/ogg",
        ".rtf": "text/rtf",
        ".wav": "audio/wav",
        ".webp": "image/webp",
        ".wmv": "video/wmv",
    }
)


def attachment(kind: object, part: Mapping[Any, Any], where: str) -> dict[str, Any]:
    """Return Gemini's part for a content part of a kind; raises InvalidRequest."""
    if not isinstance(kind, str) or kind not in ("image_url", "input_audio", "file"):
        raise InvalidRequest(f"{where}.type", kind, "one of text, image_url, input_audio, file, refusal")
    given, inside = opened(part.get(kind)), f"{where}.{kind}"
    if kind == "image_url" and isinstance(given, str):
        given = {"url": given}
    if not isinstance(given, Mapping):
        raise InvalidRequest(inside, given, "an object")
    match kind:
        case "image_url":
            return _at_url(given.get("url"), f"{inside}.url")
        case "input_audio":
            return _audio(given, inside)
    return _file(given, inside)


def _at_url(url: object, where: str) -> dict[str, Any]:
    expected = "a data: URI, or an https:// or gs:// URL whose path ends as its kind of file does (.png, .pdf, ...)"
    if not isinstance(url, str):
        raise InvalidRequest(where, url, expected)
    if url[:5].lower() == "data:":
        return _inline(url, where)
    try:
        address = urlsplit(url)
    except ValueError as error:
        raise InvalidRequest(where, url, expected) from error
    kind, _ = _KINDS.guess_type(address.path)
    if address.scheme not in ("https", "gs") or not address.netloc or kind is None:
        raise InvalidRequest(where, url, expected)
    return {"fileData": {"fileUri": url, "mimeType": kind}}


def _inline(uri: str, where: str) -> dict[str, Any]:
    """Return the data of a data: URI (RFC 2397), in base64 or percent-encoded."""
    head, comma, data = uri[5:].partition(",")
    mime_type, *parameters = head.split(";")
    if not comma or "/" not in mime_type:
        raise InvalidRequest(where, uri, "a data: URI with a media type, such as data:image/png;base64,...")
    in_base64 = bool(parameters) and parameters[-1].strip().lower() == "base64"
    try:
        raw = unquote_to_bytes(data)
    except UnicodeEncodeError as error:
        raise InvalidRequest(where, uri, "a data: URI of valid Unicode") from error
    said = raw.decode("latin-1") if in_base64 else base64.b64encode(raw).decode()
    return {"inlineData": {"mimeType": mime_type.strip().lower(), "data": said}}


def _audio(given: Mapping[Any, Any], where: str) -> dict[str, Any]:
    form = given.get("format")
    if not isinstance(form, str) or form not in _AUDIO:
        raise InvalidRequest(f"{where}.format", form, "one of " + ", ".join(_AUDIO))
    return {"inlineData": {"mimeType": _AUDIO[form], "data": _present(given, "data", where)}}


def _file(given: Mapping[Any, Any], where: str) -> dict[str, Any]:
    if given.get("file_id") is not None:
        raise InvalidRequest(f"{where}.file_id", given["file_id"], "file_data: Gemini cannot see OpenAI's files")
    data, name = _present(given, "file_data", where), given.get("filename")
    if isinstance(data, str) and data[:5].lower() == "data:":
        return _inline(data, f"{where}.file_data")
    kind, _ = _KINDS.guess_type(name) if isinstance(name, str) else (None, None)
    if kind is None:
        raise InvalidRequest(f"{where}.file_data", data, "a data: URI, or base64 with a filename that tells its kind")
    return {"inlineData": {"mimeType": kind, "data": data}}


def _present(given: Mapping[Any, Any], name: str, where: str) -> Any:
    if given.get(name) is None:
        raise InvalidRequest(f"{where}.{name}", None, "bytes, or text in base64")
    return given[name]
