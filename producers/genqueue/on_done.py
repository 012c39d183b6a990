"""Whom to tell of a job's end: an HTTPS URL, or a Celery signature, as it is stored with the job."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from genqueue.errors import InvalidRequest
from genqueue.fingerprint import canonical, encode

#: Largest signature, in bytes of JSON.
MAX_SIGNATURE_BYTES: Final = 16 * 1024

#: Longest URL, in characters.
MAX_URL: Final = 2048

#: Options of a signature that say where its message goes; any other would be dropped in silence.
ROUTING: Final = frozenset({"queue", "exchange", "routing_key"})

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_SIGNATURE: Final = ("task", "args", "kwargs", "options", "subtask_type", "immutable")
_WHOM: Final = "an https URL, or a Celery task's signature"


def parse_on_done(value: object) -> dict[str, Any]:
    """Return whom to tell as a canonical JSON object: {"url"}, or {"task", "args", "kwargs", "options", "immutable"}.

    Takes a URL, a Celery signature (recognised by its fields, without Celery), or what this function returned.

    Raises:
        InvalidRequest: `value` is neither, or says something that cannot be kept.
    """
    if isinstance(value, str):
        return _url(value)
    if isinstance(value, Mapping):
        return _url(value["url"]) if set(value) == {"url"} else _signature(value)
    if not hasattr(value, "task"):
        raise InvalidRequest("on_done", value, _WHOM)
    return _signature({name: getattr(value, name, None) for name in _SIGNATURE})


def _url(value: object) -> dict[str, Any]:
    expected = f"an https URL without credentials, of at most {MAX_URL} characters (http only to this machine)"
    try:
        parts = urlsplit(value if isinstance(value, str) and len(value) <= MAX_URL else "")
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidRequest("on_done", value, expected) from error
    secure = parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)
    plain = re.fullmatch(r"[\x21-\x7e]+", str(value)) and "@" not in parts.netloc and not parts.fragment
    if not (secure and host and plain):
        raise InvalidRequest("on_done", value, expected)
    return {"url": str(value)}


def _signature(given: Mapping[str, Any]) -> dict[str, Any]:
    task = given.get("task")
    if not isinstance(task, str) or not task:
        raise InvalidRequest("on_done", given, _WHOM)
    if given.get("subtask_type") or task.startswith("celery."):
        raise InvalidRequest("on_done", task, "the signature of one task; let that task start a chain or a group")
    args, kwargs, options = given.get("args") or (), given.get("kwargs") or {}, given.get("options") or {}
    if not isinstance(args, (list, tuple)):
        raise InvalidRequest("on_done.args", args, "a list")
    if not isinstance(kwargs, Mapping):
        raise InvalidRequest("on_done.kwargs", kwargs, "an object")
    stored = {
        "task": canonical(task, "on_done.task"),
        "args": canonical(args, "on_done.args"),
        "kwargs": canonical(dict(kwargs), "on_done.kwargs"),
        "options": _routing(options),
        "immutable": bool(given.get("immutable")),
    }
    if len(encode(stored)) > MAX_SIGNATURE_BYTES:
        raise InvalidRequest("on_done", task, f"a signature of at most {MAX_SIGNATURE_BYTES} bytes of JSON")
    return stored


def _routing(options: object) -> dict[str, str]:
    if not isinstance(options, Mapping):
        raise InvalidRequest("on_done.options", options, "an object")
    for name, value in options.items():
        if name not in ROUTING:
            raise InvalidRequest(f"on_done.options.{name}", value, f"only {', '.join(sorted(ROUTING))}")
        if not isinstance(value, str) or not value:
            raise InvalidRequest(f"on_done.options.{name}", value, "a name")
    routing: dict[str, str] = canonical(dict(options), "on_done.options")
    return routing
