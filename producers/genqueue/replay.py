"""Replaying dead letters: a new job for the request of one that failed."""

from __future__ import annotations

import base64
import json
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from genqueue.dead import DROPPED, aboard, check_dead, not_dead
from genqueue.errors import InvalidRequest, PayloadUnreadable, SettingsError
from genqueue.fingerprint import encode, fingerprint
from genqueue.intake import Accepted
from genqueue.options import build_options
from genqueue.order import Order, ReplayOptions, current_trace
from genqueue.patience import BRIEF, ask
from genqueue.payload.blobs import BlobReference
from genqueue.payload.inline import detach
from genqueue.request.contents import inline_parts
from genqueue.request.plain import check_plain
from genqueue.steps import Work
from genqueue.submission import submit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genqueue.intake import Intake
    from genqueue.options import Share
    from genqueue.steps import Operation


_JOB: Final = ("lane", "tenant", "fingerprint")
_FLIGHT: Final = ("state", "ending", "store", "cache", "on_interrupt", "request")


def replay(intake: Intake, job_id: str, given: Mapping[str, Any]) -> Operation[Accepted]:
    """Accept a new job for the request of a dead letter, which stays.

    Tenant, lane, cache, share, store and on_interrupt are those of the dead job unless given; all else is as for any
    new job.

    Args:
        intake: of the deployment.
        job_id: any job of the dead letter.
        given: see ReplayOptions. With the `job_id` of a SubmitUncertain, a replay that was accepted is found again.

    Raises:
        InvalidRequest: an option is wrong; or the job is no dead letter, or one without its request.
        JobNotFound: nobody knows the job (any more).
        PayloadUnreadable: no key here opens the request, or its inline data is gone.
        QueueFull, ServerUnavailable, SubmitUncertain, StreamGone: as `submit`.
    """
    known = sorted(ReplayOptions.__annotations__)
    for name, value in given.items():
        if name not in known:
            raise InvalidRequest(name, value, f"an option of replay: {', '.join(known)}")
    build_options(**given)
    accepted = yield from _accepted_before(intake, job_id, given.get("job_id"))
    if accepted is not None:
        return accepted
    order = yield from _order(intake, job_id, given)
    return (yield from submit(order, intake))


def _accepted_before(intake: Intake, job_id: str, new_id: str | None) -> Operation[Accepted | None]:
    """Return the job of a replay that was uncertain, if it was accepted: the dead letter may have gone since."""
    if new_id is None:
        return None
    asked = ("HMGET", intake.deployment.keys.job(new_id), "flight", "mark", "replayed_from")
    ((flight, mark, replayed_from),) = yield from ask((asked,), BRIEF)
    if flight is None or replayed_from != job_id.encode():
        return None
    return Accepted(new_id, flight.decode(), (mark or b"").decode())


def _order(intake: Intake, job_id: str, given: Mapping[str, Any]) -> Operation[Order]:
    """Return the order for the request of a dead letter."""
    keys = intake.deployment.keys
    flight, left = yield from aboard(keys, job_id)
    asked = (
        ("HMGET", keys.job(job_id), *_JOB),
        ("HMGET", keys.flight(flight), *_FLIGHT),
        ("ZSCORE", keys.dead(keys.partition_of_id(flight)), flight),
        ("ZSCORE", keys.members(flight), given.get("job_id") or ""),
    )
    job, facts, kept_until, its_own = yield from ask(asked, BRIEF)
    lane, tenant, question = ((value or b"").decode() for value in job)
    found: dict[str, bytes | None] = dict(zip(_FLIGHT, facts, strict=True))
    check_dead(job_id, left, found, kept_until)
    if its_own is not None:
        raise InvalidRequest("job_id", given["job_id"], "the id of a new job; this one is aboard of the dead letter")
    if found["request"] is None:
        unkept = found["store"] == b"none"
        raise not_dead(job_id, "one whose request nobody kept (store='none'): submit it anew" if unkept else DROPPED)
    document = yield from _whole(intake, flight, found["request"])
    inherited = {
        "lane": lane,
        "tenant": tenant,
        "share": _share(intake, document, tenant, question),
        "traceparent": current_trace(),
        **{name: (found[name] or b"").decode() or None for name in ("store", "cache", "on_interrupt")},
    }
    options = build_options(**{**inherited, **{name: value for name, value in given.items() if value is not None}})
    if options.on_interrupt == "continue":
        check_plain(document)
    return Order(document, options, replayed_from=job_id)


def _whole(intake: Intake, flight: str, stored: bytes) -> Operation[bytes]:
    """Return a stored request with all of its inline data."""
    document: bytes = yield Work(partial(intake.codec.open, "request", stored))
    if b'"blob":' not in document:
        return document
    request = json.loads(document)
    for _, part in inline_parts(request["contents"], request.get("system_instruction")):
        inline = part["inlineData"]
        if "blob" in inline:
            data = yield from _blob(intake, flight, BlobReference(**inline.pop("blob")))
            inline["data"] = base64.b64encode(data).decode()
    return encode(request)


def _blob(intake: Intake, flight: str, reference: BlobReference) -> Operation[bytes]:
    if intake.blobs is None:
        raise SettingsError(["GENQUEUE_BLOB_URL: not set, expected the store that has this job's inline data"])
    data: bytes | None = yield Work(partial(intake.blobs.fetch, flight, reference))
    if data is None:
        size, digest = reference.size, reference.sha256
        raise PayloadUnreadable(f"inline data of {size} bytes (sha256 {digest}) is not in the blob store any more")
    return data


def _share(intake: Intake, document: bytes, tenant: str, question: str) -> Share:
    """Return with whom a question was shared, by its fingerprint."""
    if not question:
        return "none"
    identity = detach(document, tenant, intake.settings, intake.codec).identity
    everybodys = {fingerprint(identity, scope="global", key=key) for key in intake.codec.fingerprint_keys}
    return "global" if question in everybodys else "tenant"
