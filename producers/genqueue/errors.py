"""Every error genqueue raises, split by whose fault it is.

GenqueueError
├── CallerError             the call is wrong: fix it, nothing was queued
│   ├── InvalidRequest      a field of the request or its options (also a ValueError)
│   ├── SettingsError       an environment variable or setting (also a ValueError)
│   └── JobNotFound         no job of that id is known (any more) (also a LookupError)
├── JobError                the job was accepted and ended without an answer
│   ├── JobFailed           the provider refused, or every try was used up
│   ├── JobCancelled        somebody cancelled it
│   └── JobExpired          its deadline passed
├── CapacityError           there is no room at the moment: nothing was queued, come again
│   └── QueueFull           the lane takes no more jobs
├── InfrastructureError     something between you and the answer, such as a client that was closed
│   ├── ServerUnavailable   the data server does not answer
│   │   └── BlobsUnavailable the store of large inline data does not
│   ├── SubmitUncertain     it stopped answering in the middle of a submit
│   ├── StreamGone          the stream's time to live is over
│   ├── PayloadUnreadable   what is stored cannot be opened with the keys set here
│   └── WaitTimeout         your own timeout passed; the job goes on (also a TimeoutError)
└── MissingExtra            a part of genqueue that is not installed (also an ImportError)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Longest piece of an offending value that a message repeats, in characters.
SHOWN = 80


def shown(value: object) -> str:
    """Return a short, safe form of a value for a message."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a caller's object may fail in any way; the message about it must not
        return f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text)} characters)"


class GenqueueError(Exception):
    """Base of everything genqueue raises on purpose; survives pickling, as process pools need."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args), self.__dict__


def _restored(kind: type[GenqueueError], args: tuple[object, ...]) -> GenqueueError:
    error = kind.__new__(kind)
    error.args = args
    return error


class CallerError(GenqueueError):
    """The call is wrong; nothing was queued."""


class InvalidRequest(CallerError, ValueError):
    """A field of the request is not what it should be.

    Attributes:
        field: dotted path of the field, e.g. "config.temperature".
        expected: what it should be, in words.
    """

    def __init__(self, field: str, value: object, expected: str) -> None:
        super().__init__(f"{field}: got {shown(value)}, expected {expected}")
        self.field = field
        self.expected = expected


class SettingsError(CallerError, ValueError):
    """One or more settings are wrong; the message lists all of them.

    Attributes:
        problems: one sentence per variable: its name, its value, what is expected.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class JobNotFound(CallerError, LookupError):
    """No job of this id is known: it never was, or its retention is over.

    Attributes:
        job_id: the id that was asked for.
    """

    def __init__(self, job_id: str) -> None:
        super().__init__(f"no job {shown(job_id)}: the id is wrong, or its retention is over")
        self.job_id = job_id


class JobError(GenqueueError):
    """The job was accepted and ended without an answer.

    Attributes:
        job_id: the job's id.
    """

    def __init__(self, job_id: str, message: str) -> None:
        super().__init__(message)
        self.job_id = job_id


class JobFailed(JobError):
    """The provider refused the request, or every try was used up.

    Attributes:
        code: the provider's status (e.g. "INVALID_ARGUMENT") or genqueue's own (e.g. "worker_lost").
        message: the provider's own words.
        retryable: whether the same request may succeed later.
        prompt_feedback: of a blocked prompt, what the provider said: `blockReason`, `safetyRatings`; else empty.
    """

    def __init__(
        self,
        job_id: str,
        code: str,
        message: str,
        *,
        retryable: bool,
        prompt_feedback: Mapping[str, Any] | None = None,
    ) -> None:
        # What may be tried again is a dead letter.
        history = f" (its attempts: genqueue dead show {job_id})" if retryable else ""
        super().__init__(job_id, f"job {job_id} failed: {code}: {message}{history}")
        self.code = code
        self.message = message
        self.retryable = retryable
        self.prompt_feedback = dict(prompt_feedback or {})


class JobCancelled(JobError):
    """The job was cancelled before it had an answer."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id, f"job {job_id} was cancelled")


class JobExpired(JobError):
    """The job's deadline passed before it had an answer."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id, f"job {job_id} expired: its deadline passed; submit it again with a later one")


class CapacityError(GenqueueError):
    """There is no room at the moment; nothing was queued."""


class QueueFull(CapacityError):
    """The lane takes no more jobs: the data server is short of memory. Nothing was queued.

    Attributes:
        lane: the lane that was asked for.
        retry_after: seconds after which to submit again.
        reason: what there is too much of.
    """

    def __init__(self, lane: str, retry_after: float, reason: str) -> None:
        super().__init__(
            f"the lane {lane} is full: {reason}; nothing was queued, submit again in {retry_after:.0f} s or later"
        )
        self.lane = lane
        self.retry_after = retry_after
        self.reason = reason


class InfrastructureError(GenqueueError):
    """Something between the caller and the answer is not working."""


class ServerUnavailable(InfrastructureError):
    """The data server did not answer in time, or refused.

    Attributes:
        server: host, port and database of the server, without credentials.
        sent: whether what was asked may have reached the server, so that it may have been done.
    """

    def __init__(self, server: str, reason: object, *, sent: bool = False) -> None:
        super().__init__(f"the data server at {server} is not available ({reason}); start it or set GENQUEUE_DATA_URL")
        self.server = server
        self.sent = sent


class BlobsUnavailable(ServerUnavailable):
    """The store of large inline data did not answer, or refused."""

    def __init__(self, server: str, reason: object) -> None:
        InfrastructureError.__init__(
            self, f"the blob store at {server} is not available ({reason}); see GENQUEUE_BLOB_URL"
        )
        self.server = server
        self.sent = False


class SubmitUncertain(InfrastructureError):
    """The data server stopped answering in the middle of a submit: the job may have been accepted, or not.

    Submit the same request again with `job_id=error.job_id`: it is accepted once, whatever had become of it.

    Attributes:
        job_id: the job's id.
    """

    def __init__(self, job_id: str, reason: object) -> None:
        super().__init__(
            f"job {job_id} may have been accepted or not ({reason}); "
            f"submit the same request again with job_id={job_id!r}: it runs once"
        )
        self.job_id = job_id


class StreamGone(InfrastructureError):
    """The job's stream has expired; its result may still be there.

    Attributes:
        job_id: the job whose stream was asked for.
    """

    def __init__(self, job_id: str) -> None:
        super().__init__(f"the stream of job {job_id} is gone: its time to live is over; try result()")
        self.job_id = job_id


class PayloadUnreadable(InfrastructureError):
    """A stored request, answer or event cannot be opened here: another key, a later version, or damage."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"what is stored cannot be opened: {reason}")


class WaitTimeout(InfrastructureError, TimeoutError):
    """The caller's own timeout passed; the job goes on.

    Attributes:
        job_id: the job that was waited for.
    """

    def __init__(self, job_id: str, timeout: float) -> None:
        super().__init__(f"job {job_id} did not end within {timeout:g} s; it goes on, wait again or cancel() it")
        self.job_id = job_id


class MissingExtra(GenqueueError, ImportError):
    """A part of genqueue is used that is not installed.

    Attributes:
        extra: the extra that brings it.
    """

    def __init__(self, extra: str, missing: str) -> None:
        super().__init__(f"{missing} is not installed; install it with: pip install 'genqueue[{extra}]'")
        self.extra = extra
