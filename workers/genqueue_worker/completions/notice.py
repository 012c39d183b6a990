"""What is told of a job's end."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from genqueue.errors import PayloadUnreadable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genqueue.keys import Keys
    from genqueue.ledger import Completion
    from genqueue.payload.codec import Codec

log = logging.getLogger("genqueue.reading.completions")

#: Longest result that is told, in bytes of JSON; whoever wants a longer one asks for it.
MAX_RESULT: Final = 256 * 1024

#: Bytes that a stored result may have and still open to that: sealing adds a few.
MAX_STORED: Final = MAX_RESULT + 1024


def notice(completion: Completion, keys: Keys, codec: Codec) -> dict[str, Any]:
    """Return what is told, as a JSON object: type, timestamp and data."""
    return {
        "type": f"job.{completion.state}",
        "timestamp": _moment(completion.done_at_ms),
        "data": data_of(completion, keys, codec),
    }


def data_of(completion: Completion, keys: Keys, codec: Codec) -> dict[str, Any]:
    """Return the facts of an end; a field that does not apply is null."""
    ending, result = _ending(completion, codec), _result(completion, codec)
    usage = ending.get("usage")
    return {
        "job_id": completion.job,
        "state": completion.state,
        "tenant": completion.tenant,
        "lane": completion.lane,
        "deadline": _moment(completion.deadline_ms),
        "stream_key": keys.events(completion.flight),
        "finish_reason": ending.get("finish_reason"),
        "usage": json.loads(usage) if usage else None,
        "model": ending.get("model"),
        "source": ending.get("source"),
        "result": result,
        "truncated": completion.state == "completed" and result is None,
        "code": ending.get("code"),
        "message": ending.get("message"),
        "retryable": ending["retryable"] == "1" if "retryable" in ending else None,
    }


def _moment(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _ending(completion: Completion, codec: Codec) -> Mapping[str, str]:
    fields: dict[str, str] = json.loads(completion.ending)
    try:
        return codec.open_entry(fields)
    except PayloadUnreadable as error:
        log.warning("completion.unreadable job=%s error=%s", completion.job, error)
        return fields


def _result(completion: Completion, codec: Codec) -> Any:
    if not completion.result:
        return None
    try:
        document = codec.open("result", completion.result)
    except PayloadUnreadable as error:
        log.warning("completion.unreadable job=%s error=%s", completion.job, error)
        return None
    return json.loads(document) if len(document) <= MAX_RESULT else None
